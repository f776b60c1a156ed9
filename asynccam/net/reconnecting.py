"""A WebSocket that comes back: the states of a connection, and the loop that walks them.

The states are a table (`TRANSITIONS`); whatever is not in it is a bug and raises. Anyone may read
the state, wait for one, or listen to every change. See docs/reconnecting.md for the picture.
"""

import asyncio
import builtins
import logging
import math
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar, Final, Generic, Protocol, TypeVar

from asynccam.errors import AsynccamError, AuthenticationError, ConnectionError, StateError, TimeoutError
from asynccam.model.events import Event
from asynccam.net.websocket import CloseInfo
from asynccam.runtime.retry import Backoff, Retrier
from asynccam.runtime.tasks import Ready, TaskScope, finish
from asynccam.runtime.timing import SYSTEM_CLOCK, Clock, deadline, slept

_LOG = logging.getLogger(__name__)


class ConnectionState(Enum):
    """Where a connection stands."""

    CLOSED = "closed"
    CONNECTING = "connecting"
    SIGNING_IN = "signing in"
    READY = "ready"
    LOST = "lost"
    WAITING = "waiting"
    REFUSED = "refused"


TRANSITIONS: Final[dict[ConnectionState, frozenset[ConnectionState]]] = {
    ConnectionState.CLOSED: frozenset({ConnectionState.CONNECTING}),
    ConnectionState.CONNECTING: frozenset(
        {ConnectionState.SIGNING_IN, ConnectionState.WAITING, ConnectionState.REFUSED, ConnectionState.CLOSED}
    ),
    ConnectionState.SIGNING_IN: frozenset(
        {ConnectionState.READY, ConnectionState.WAITING, ConnectionState.REFUSED, ConnectionState.CLOSED}
    ),
    ConnectionState.READY: frozenset({ConnectionState.LOST, ConnectionState.CLOSED}),
    ConnectionState.LOST: frozenset({ConnectionState.WAITING, ConnectionState.CLOSED}),
    ConnectionState.WAITING: frozenset({ConnectionState.CONNECTING, ConnectionState.CLOSED}),
    ConnectionState.REFUSED: frozenset({ConnectionState.CONNECTING, ConnectionState.CLOSED}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionStateChanged(Event):
    """The connection to a service changed its state.

    Attributes:
        service: The service's address.
        state: The state now.
        previous: The state before.
        reason: Why, in words, or ``""``.
    """

    slot: ClassVar[str] = "connection"
    service: str
    state: ConnectionState
    previous: ConnectionState
    reason: str = ""

    @property
    def server(self) -> str:
        """The service's address, under the name that ThorVision uses."""
        return self.service

    @property
    def subject(self) -> str:
        """The service's address."""
        return self.service


class Connection(Protocol):
    """One connection, as far as the loop needs to know it."""

    @property
    def closed(self) -> "asyncio.Future[CloseInfo]":
        """Done when the connection has ended."""
        ...

    async def aclose(self) -> None:
        """End it."""
        ...


_EARLY_PAUSE: Final = 1.0
"""Seconds at most between tries with a token that may be too early for the peer's clock."""

L = TypeVar("L", bound=Connection)
StateListener = Callable[[ConnectionState, ConnectionState, str], None]
"""Called with the new state, the one before and why; must not block."""


class ReconnectingConnection(Generic[L]):
    """Keeps one link open, and opens another when it goes.

    Args:
        name: For errors and the log; an address without credentials.
        open_link: Opens a link.
        sign_in: Makes an open link usable: authenticates, subscribes again, fetches what may
            have changed. Its second argument is the length of the gap in seconds, None at first.
        backoff: The waits between tries; by default the first retry comes at once.
        sign_in_timeout: Seconds ``sign_in`` may take.
        settled_after: A link that was ready for this many seconds starts the waits afresh.
        on_state: Called at every change of state.
        clock: Time, for tests.
        rng: Randomness, for tests.
    """

    def __init__(
        self,
        name: str,
        open_link: Callable[[], Awaitable[L]],
        sign_in: Callable[[L, float | None], Awaitable[None]],
        *,
        backoff: Backoff | None = None,
        sign_in_timeout: float = 30.0,
        settled_after: float = 1.0,
        on_state: StateListener | None = None,
        clock: Clock = SYSTEM_CLOCK,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self.name = name
        self._open_link = open_link
        self._sign_in = sign_in
        self._retrier = Retrier(backoff or Backoff(immediate=True), clock=clock, rng=rng)
        self._sign_in_timeout = sign_in_timeout
        self._settled_after = settled_after
        self._on_state = on_state
        self._clock = clock
        self._state = ConnectionState.CLOSED
        self._scope: TaskScope | None = None
        self._waiters: list[tuple[frozenset[ConnectionState], asyncio.Future[ConnectionState]]] = []
        self.link: L | None = None
        self.reason = ""
        """Why the connection is in its present state, in words."""
        self.error: AsynccamError | None = None
        """What ended the last try or the last link."""
        self.lost_at: float | None = None
        """Unix seconds of the last loss, while it lasts."""
        self._lost_since = 0.0  # the same by the monotonic clock
        self._slept_before = 0.0
        self.connects = 0
        """How often the connection became ready."""

    @property
    def state(self) -> ConnectionState:
        """Where the connection stands."""
        return self._state

    async def start(self, *, attempts: int = 1, timeout: float | None = None) -> None:
        """Open the connection and wait until it is ready; from then on it is kept open.

        Args:
            attempts: Tries before giving up; those whose credentials may only be early do not count.
            timeout: Seconds for all tries and the waits between them, or None.

        Raises:
            StateError: It is already started.
            AuthenticationError: The credentials were refused.
            TimeoutError: The connection was not ready in time.
            AsynccamError: Whatever the last try failed with.
        """
        if self._scope is not None:
            raise StateError(f"{self.name} is already connected; its state is {self._state.value}")
        self._scope = scope = TaskScope(self.name)
        limit = asyncio.timeout(timeout)
        try:
            async with limit:
                await scope.start(lambda ready: self._run(ready, attempts), name="link", timeout=None)
        except builtins.TimeoutError:
            await self.aclose()
            if not limit.expired():  # a try's own
                raise
            raise self._late(timeout or 0.0) from self.error
        except BaseException:
            await finish(self.aclose())
            raise

    def _late(self, timeout: float) -> AsynccamError:
        """Return the error to raise when the first connection took too long."""
        if isinstance(self.error, AuthenticationError):
            return self.error
        before = "" if self.error is None else f"; the try before: {self.error}"
        return TimeoutError(f"no usable connection to {self.name} within {timeout:g} s{before}")

    async def aclose(self) -> None:
        """Close the connection for good; harmless when called twice."""
        scope, self._scope = self._scope, None
        if scope is None:
            return
        await scope.aclose()

    def retry_now(self) -> None:
        """Try again now: something says that the peer is back."""
        if self._state is ConnectionState.WAITING:
            self._retrier.retry_now()

    def rearm(self) -> None:
        """Try again with new credentials after a refusal."""
        if self._state is ConnectionState.REFUSED:
            self._retrier.retry_now()
            # At once, so that the next call waits for the outcome.
            self._move(ConnectionState.CONNECTING, "new credentials")

    async def wait_for(self, *states: ConnectionState, timeout: float | None = None) -> ConnectionState:
        """Wait until the connection is in one of the states.

        Raises:
            TimeoutError: It was not within ``timeout`` seconds.
        """
        if self._state in states:
            return self._state
        future: asyncio.Future[ConnectionState] = asyncio.get_running_loop().create_future()
        entry = (frozenset(states), future)
        self._waiters.append(entry)
        try:
            async with deadline(timeout, f"state {' or '.join(s.value for s in states)} of {self.name}"):
                return await future
        finally:
            self._waiters.remove(entry)

    # -- the loop ---------------------------------------------------------------------------------

    async def _run(self, ready: Ready[None], attempts: int) -> None:
        try:
            await self._keep_up(ready, attempts)
        finally:
            self._move(ConnectionState.CLOSED, "closed" if self.error is None else str(self.error))

    async def _keep_up(self, ready: Ready[None], attempts: int) -> None:
        retrier = self._retrier
        retrier.reset()
        remaining = attempts
        while True:
            self._move(ConnectionState.CONNECTING, self.reason if self.connects else "")
            try:
                link = await self._attempt()
            except AuthenticationError as error:
                if error.may_pass:
                    self.error = error
                    self._move(ConnectionState.WAITING, str(error))
                    await retrier.wait(min(retrier.next_delay(), _EARLY_PAUSE))
                    continue
                if not self.connects:
                    raise
                self._refused(error)
                await retrier.wait(math.inf)  # for `rearm`
                retrier.reset()
                continue
            except AsynccamError as error:
                remaining -= 1
                if not self.connects and not remaining:
                    raise
                self.error = error
                self._move(ConnectionState.WAITING, str(error))
                await retrier.wait_after_failure()
                continue
            self._up(link)
            ready(None)
            began = self._clock.monotonic()
            # A callback, because whoever hears that a call failed must find the state true already.
            link.closed.add_done_callback(self._lost)
            try:
                await asyncio.shield(link.closed)
            finally:
                link.closed.remove_done_callback(self._lost)
                self.link = None
                await link.aclose()
            if self._clock.monotonic() - began >= self._settled_after:
                retrier.reset()
            self._move(ConnectionState.WAITING, self.reason)
            await retrier.wait_after_failure()

    async def _attempt(self) -> L:
        link = await self._open_link()
        try:
            self._move(ConnectionState.SIGNING_IN, "")
            gap = None if self.lost_at is None else self._away()
            async with deadline(self._sign_in_timeout, f"completed sign-in at {self.name}"):
                await self._sign_in(link, gap)
            if link.closed.done():
                raise ConnectionError(
                    f"{self.name} closed the connection during sign-in: {link.closed.result().reason}"
                )
        except BaseException:
            await link.aclose()
            raise
        return link

    def _up(self, link: L) -> None:
        self.link = link
        self.connects += 1
        self.error = None
        if self.lost_at is not None:
            _LOG.info("%s is back after %.1f s", self.name, self._away())
            self.lost_at = None
        self._move(ConnectionState.READY, "")

    def _away(self) -> float:
        """Seconds since the loss, those included that the computer slept."""
        return self._clock.monotonic() - self._lost_since + slept() - self._slept_before

    def _lost(self, closed: "asyncio.Future[CloseInfo]") -> None:
        # A future that is done has scheduled its callbacks already: removing one then comes too late.
        if self.link is None or self.link.closed is not closed:
            return
        self.link = None
        reason = f"{closed.result().reason} (code {closed.result().code})"
        self.error = ConnectionError(f"the connection to {self.name} was lost: {reason}")
        self.lost_at, self._lost_since = self._clock.time(), self._clock.monotonic()
        self._slept_before = slept()
        _LOG.warning("lost %s: %s", self.name, reason)  # once a loss; the tries that follow are silent
        self._move(ConnectionState.LOST, reason)

    def _refused(self, error: AuthenticationError) -> None:
        self.error = error
        _LOG.error("%s is tried again only with new credentials: %s", self.name, error)
        self._move(ConnectionState.REFUSED, str(error))

    def _move(self, state: ConnectionState, reason: str) -> None:
        previous = self._state
        if state is previous:
            return
        if state not in TRANSITIONS[previous]:
            raise StateError(f"{self.name} cannot go from {previous.value} to {state.value}")
        self._state = state
        self.reason = reason
        _LOG.debug("%s: %s -> %s%s", self.name, previous.value, state.value, f" ({reason})" if reason else "")
        for states, future in self._waiters:
            if state in states and not future.done():
                future.set_result(state)
        if self._on_state is not None:
            self._on_state(state, previous, reason)
