"""A connection that reconnects: its states, and the loop that walks through them.

The states are a table (`TRANSITIONS`); a transition that is not in it is a bug and raises. Anyone may read
the state, wait for one, or be called at every change. See docs/reconnecting.md for the picture.
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
    """State of a connection."""

    CLOSED = "closed"
    CONNECTING = "connecting"
    AUTHENTICATING = "signing in"
    READY = "ready"
    LOST = "lost"
    WAITING = "waiting"
    REFUSED = "refused"


_S = ConnectionState
TRANSITIONS: Final[dict[ConnectionState, frozenset[ConnectionState]]] = {
    # Every state may become CLOSED: by `aclose`, or by the failure of the first connection.
    _S.CLOSED: frozenset({_S.CONNECTING}),
    # DNS, TCP, TLS and the WebSocket handshake; a handshake may be refused with HTTP 401 or 403.
    _S.CONNECTING: frozenset({_S.AUTHENTICATING, _S.WAITING, _S.REFUSED, _S.CLOSED}),
    # Also subscribes again and fetches what may have changed.
    _S.AUTHENTICATING: frozenset({_S.READY, _S.WAITING, _S.REFUSED, _S.CLOSED}),
    _S.READY: frozenset({_S.LOST, _S.CLOSED}),
    # Open calls have failed; the connection is being closed.
    _S.LOST: frozenset({_S.WAITING, _S.CLOSED}),
    # Until the backoff's delay is over, or `retry_now`.
    _S.WAITING: frozenset({_S.CONNECTING, _S.CLOSED}),
    # Until `retry_authentication`: repeating wrong credentials may lock an account.
    _S.REFUSED: frozenset({_S.CONNECTING, _S.CLOSED}),
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


class ClosableConnection(Protocol):
    """One connection, as far as the loop needs to know it."""

    @property
    def closed(self) -> "asyncio.Future[CloseInfo]":
        """Done when the connection has ended."""
        ...

    async def aclose(self) -> None:
        """Close the connection."""
        ...


_EARLY_PAUSE: Final = 1.0
"""Seconds at most between tries with a token that may be too early for the peer's clock."""

C = TypeVar("C", bound=ClosableConnection)
StateListener = Callable[[ConnectionState, ConnectionState, str], None]
"""Called with the new state, the one before and why; must not block."""


class ReconnectingConnection(Generic[C]):
    """Keeps one connection open, and opens another when it is lost.

    Args:
        name: For errors and the log; an address without credentials.
        open_connection: Opens a connection.
        authenticate: Makes an open connection usable: authenticates, subscribes again, fetches what may
            have changed. Its second argument is the length of the outage in seconds, None at first.
        backoff: The waits between tries; by default the first retry is immediate.
        authentication_timeout: Seconds ``authenticate`` may take.
        settled_after: A connection that was ready for this many seconds starts the waits afresh.
        on_state: Called at every change of state.
        clock: Time, for tests.
        rng: Randomness, for tests.
    """

    def __init__(
        self,
        name: str,
        open_connection: Callable[[], Awaitable[C]],
        authenticate: Callable[[C, float | None], Awaitable[None]],
        *,
        backoff: Backoff | None = None,
        authentication_timeout: float = 30.0,
        settled_after: float = 1.0,
        on_state: StateListener | None = None,
        clock: Clock = SYSTEM_CLOCK,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self.name = name
        self.connection: C | None = None  # the connection that is ready, or None
        self.connects = 0  # how often the connection became ready
        self.reason = ""  # why the connection is in its present state, in words
        self.error: AsynccamError | None = None  # the error that ended the last try or the last connection
        self.lost_at: float | None = None  # Unix seconds of the last loss, during an outage
        self._lost_since = 0.0  # the same by the monotonic clock
        self._slept_before_loss = 0.0
        self._open_connection = open_connection
        self._authenticate = authenticate
        self._retrier = Retrier(backoff or Backoff(immediate=True), clock=clock, rng=rng)
        self._authentication_timeout = authentication_timeout
        self._settled_after = settled_after
        self._on_state = on_state
        self._clock = clock
        self._state = ConnectionState.CLOSED
        self._scope: TaskScope | None = None
        self._waiters: list[tuple[frozenset[ConnectionState], asyncio.Future[ConnectionState]]] = []

    @property
    def state(self) -> ConnectionState:
        """State of the connection."""
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
            AsynccamError: The error of the last try.
        """
        if self._scope is not None:
            raise StateError(f"{self.name} is already connected; its state is {self._state.value}")
        self._scope = scope = TaskScope(self.name)

        async def run(ready: Ready[None]) -> None:
            await self._run(ready, attempts)

        limit = asyncio.timeout(timeout)
        try:
            async with limit:
                await scope.start(run, name="connection", timeout=None)
        except builtins.TimeoutError:
            await self.aclose()
            if not limit.expired():  # a try's own
                raise
            raise self._timeout_error(timeout or 0.0) from self.error
        except BaseException:
            await finish(self.aclose())
            raise

    def _timeout_error(self, timeout: float) -> AsynccamError:
        if isinstance(self.error, AuthenticationError):
            return self.error
        last = "" if self.error is None else f"; the last try: {self.error}"
        return TimeoutError(f"no usable connection to {self.name} within {timeout:g} s{last}")

    async def aclose(self) -> None:
        """Close the connection for good; harmless when called twice."""
        scope, self._scope = self._scope, None
        if scope is not None:
            await scope.aclose()

    def retry_now(self) -> None:
        """Try again now: something says that the peer is back."""
        if self._state is ConnectionState.WAITING:
            self._retrier.retry_now()

    def retry_authentication(self) -> None:
        """Try again after a refusal, with new credentials."""
        if self._state is ConnectionState.REFUSED:
            self._retrier.retry_now()
            # At once, so that the next call waits for the outcome.
            self._set_state(ConnectionState.CONNECTING, "new credentials")

    async def wait_for(self, *states: ConnectionState, timeout: float | None = None) -> ConnectionState:
        """Wait until the connection is in one of the states, and return it.

        Raises:
            TimeoutError: It was not within ``timeout`` seconds.
        """
        if self._state in states:
            return self._state
        future: asyncio.Future[ConnectionState] = asyncio.get_running_loop().create_future()
        waiter = (frozenset(states), future)
        self._waiters.append(waiter)
        try:
            async with deadline(timeout, f"state {' or '.join(s.value for s in states)} of {self.name}"):
                return await future
        finally:
            self._waiters.remove(waiter)

    # -- the loop ---------------------------------------------------------------------------------

    async def _run(self, ready: Ready[None], attempts: int) -> None:
        self._retrier.reset()
        remaining = attempts
        try:
            while True:
                self._set_state(ConnectionState.CONNECTING, self.reason if self.connects else "")
                try:
                    connection = await self._connect()
                except AuthenticationError as error:
                    if not error.may_pass and not self.connects:
                        raise
                    await self._wait_after_refusal(error)
                    continue
                except AsynccamError as error:
                    remaining -= 1
                    if not self.connects and not remaining:
                        raise
                    self.error = error
                    self._set_state(ConnectionState.WAITING, str(error))
                    await self._retrier.wait_after_failure()
                    continue
                self._on_ready(connection)
                ready(None)
                await self._until_lost(connection)
                self._set_state(ConnectionState.WAITING, self.reason)
                await self._retrier.wait_after_failure()
        finally:
            self._set_state(ConnectionState.CLOSED, "closed" if self.error is None else str(self.error))

    async def _connect(self) -> C:
        """Open a connection and make it usable, or leave none."""
        connection = await self._open_connection()
        try:
            self._set_state(ConnectionState.AUTHENTICATING, "")
            outage = None if self.lost_at is None else self._outage()
            async with deadline(self._authentication_timeout, f"completed sign-in at {self.name}"):
                await self._authenticate(connection, outage)
            if connection.closed.done():
                reason = connection.closed.result().reason
                raise ConnectionError(f"{self.name} closed the connection during sign-in: {reason}")
        except BaseException:
            await connection.aclose()
            raise
        return connection

    async def _wait_after_refusal(self, error: AuthenticationError) -> None:
        self.error = error
        if error.may_pass:
            self._set_state(ConnectionState.WAITING, str(error))
            await self._retrier.wait(min(self._retrier.next_delay(), _EARLY_PAUSE))
            return
        _LOG.error("%s is tried again only with new credentials: %s", self.name, error)
        self._set_state(ConnectionState.REFUSED, str(error))
        await self._retrier.wait(math.inf)  # for `retry_authentication`
        self._retrier.reset()

    def _on_ready(self, connection: C) -> None:
        self.connection = connection
        self.connects += 1
        self.error = None
        if self.lost_at is not None:
            _LOG.info("%s is connected again after %.1f s", self.name, self._outage())
            self.lost_at = None
        self._set_state(ConnectionState.READY, "")

    async def _until_lost(self, connection: C) -> None:
        ready_since = self._clock.monotonic()
        # A callback, because a caller whose call has failed must find the state LOST already.
        connection.closed.add_done_callback(self._on_lost)
        try:
            await asyncio.shield(connection.closed)
        finally:
            connection.closed.remove_done_callback(self._on_lost)
            self.connection = None
            await connection.aclose()
        if self._clock.monotonic() - ready_since >= self._settled_after:
            self._retrier.reset()

    def _on_lost(self, closed: "asyncio.Future[CloseInfo]") -> None:
        # A future that is done has scheduled its callbacks already: removing one then is too late.
        if self.connection is None or self.connection.closed is not closed:
            return
        self.connection = None
        reason = f"{closed.result().reason} (code {closed.result().code})"
        self.error = ConnectionError(f"the connection to {self.name} was lost: {reason}")
        self.lost_at, self._lost_since = self._clock.time(), self._clock.monotonic()
        self._slept_before_loss = slept()
        _LOG.warning("lost %s: %s", self.name, reason)  # once a loss; the tries that follow are silent
        self._set_state(ConnectionState.LOST, reason)

    def _outage(self) -> float:
        """Return the seconds since the loss, those included that the computer slept."""
        return self._clock.monotonic() - self._lost_since + slept() - self._slept_before_loss

    def _set_state(self, state: ConnectionState, reason: str) -> None:
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
