"""One call, with what this service's ways ask for: refusals that pass are waited out, others raised.

A call that was refused (not signed in, too many calls) was not carried out, so it may be sent again
whatever it does. A call that was lost may have been, so only a read is. See docs/protocols/mediamtx.md.
"""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

from asynccam.errors import AsynccamError, StateError, TimeoutError
from asynccam.net.jsonrpc import JsonRpcClient, JsonRpcConnection, RpcError
from asynccam.net.reconnecting import ConnectionState
from asynccam.runtime.retry import Backoff
from asynccam.runtime.timing import deadline
from asynccam.systems.mediamtx.auth import NO_SUCH_METHOD, LinkFacts, authenticate_by_any, translated
from asynccam.systems.mediamtx.errors import (
    AuthenticationError,
    ConnectionError,
    PermissionDeniedError,
    RateLimitedError,
)
from asynccam.systems.mediamtx.settings import Credentials
from asynccam.systems.mediamtx.tokens import advice
from asynccam.wall_clock import unix_now

SLOW: Final = frozenset({"start_recording", "stop_recording", "take_snapshot"})
"""Methods that may take the service long."""
HOLD_UP: Final = 15.0
"""Seconds for which a slow method holds up the other calls of a connection in generation 1."""

_GRACE: Final = 2.0
"""Seconds the calls on a connection get to be answered before it is replaced."""
_EARLY_PAUSE: Final = 0.5
"""Seconds between sign-ins with a token that may be too early for the service's clock."""
_RATE: Final = Backoff(initial=0.5, maximum=10.0)
_SETTLED: Final = (ConnectionState.READY, ConnectionState.REFUSED, ConnectionState.CLOSED)


class Caller:
    """Calls on one service.

    Args:
        rpc: The connection.
        credentials: What it is signed in with.
        timeout: Seconds a call may take that is given no time of its own.

    Attributes:
        facts: What is known of the service on the present connection.
    """

    def __init__(self, rpc: JsonRpcClient, credentials: Credentials, timeout: float) -> None:
        self.facts = LinkFacts(generation=2)
        self._rpc = rpc
        self._credentials = credentials
        self._timeout = timeout
        self._slow = 0
        self._waiting = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._renewing = asyncio.Lock()

    def post(self, method: str, params: dict[str, Any], *, timeout: float) -> "PostedCall":
        """Send a call in place; see `PostedCall`.

        Raises:
            ConnectionError: Not connected at this moment; nothing was sent.
            UsageError: The parameters cannot be JSON.
        """
        link = self._rpc.reconnecting.connection
        if link is None:
            raise ConnectionError(
                f"not connected to {self._rpc.url} ({self._rpc.state.value}); {method} was not sent"
            )
        try:
            future = link.post(method, params, timeout=timeout)
        except AsynccamError as error:
            raise translated(error, self.facts.generation, self.facts.secret) from error
        return PostedCall(self, method, params, timeout, future)

    async def call(
        self,
        method: str,
        params: dict[str, Any] | None = None,
        *,
        timeout: float | None = None,
        repeat: bool = False,
        posted: "asyncio.Future[Any] | None" = None,
    ) -> Any:
        """Call a method and wait for its answer.

        Args:
            method: The remote method.
            params: By name.
            timeout: Seconds for everything; None for the client's own, which is longer while slow
                calls of ours hold up the connection.
            repeat: Whether it only reads, and may be sent again after a lost connection.
            posted: The answer to come, if the call has been sent already.

        Returns:
            The answer's ``result``.

        Raises:
            CameraServiceError: What the service's refusal means, or a lost connection.
            TimeoutError: No answer in time.
        """
        loop = asyncio.get_running_loop()
        if timeout is None:
            timeout = self._timeout + (HOLD_UP * self._slow if self.facts.generation == 1 else 0.0)
        until = loop.time() + timeout
        rate: Iterator[float] | None = None
        refusals = 0
        secret: str | None = None  # carried by the call itself
        slow = method in SLOW
        self._slow += slow
        try:
            while True:
                if self._renewing.locked():
                    await self._renewed(method, until)
                link, facts = self._rpc.reconnecting.connection, self.facts
                given = params if secret is None else {**(params or {}), "auth_token": secret}
                self._waiting += 1
                self._idle.clear()
                try:
                    if posted is not None:
                        value = await posted
                    else:
                        left = max(until - loop.time(), 0.001)
                        value = await self._rpc.call(method, given, timeout=left, repeat=repeat)
                    facts.working.add(method)
                    return value
                except AsynccamError as error:
                    problem = translated(error, facts.generation, facts.secret)
                    if problem is error:
                        raise
                    cause = error
                finally:
                    self._waiting -= 1
                    if not self._waiting:
                        self._idle.set()
                posted = None
                if isinstance(cause, RpcError) and cause.code == NO_SUCH_METHOD:
                    facts.missing.add(method)
                if isinstance(problem, RateLimitedError):
                    wait = problem.retry_after
                    if wait is None:
                        rate = rate or _RATE.delays()
                        wait = next(rate)
                    if loop.time() + wait >= until:
                        raise problem from cause
                    await asyncio.sleep(wait)
                elif self._not_signed_in(problem, facts, cause):
                    secret = await self._admit_in_time(method, refusals, link, facts, problem, until)
                    refusals += 1
                else:
                    raise problem from cause
        finally:
            self._slow -= slow

    async def _renewed(self, method: str, until: float) -> None:
        """Wait while the sign-in is renewed: whatever is sent meanwhile would only be refused."""
        left = max(until - asyncio.get_running_loop().time(), 0.001)
        async with deadline(left, f"renewed sign-in at {self._rpc.url} for {method}"), self._renewing:
            pass

    @staticmethod
    def _not_signed_in(problem: AsynccamError, facts: LinkFacts, cause: AsynccamError) -> bool:
        return (
            isinstance(cause, RpcError)
            and isinstance(problem, AuthenticationError)
            and not isinstance(problem, PermissionDeniedError)
            and facts.secret is not None
        )

    async def _admit_in_time(
        self,
        method: str,
        refusals: int,
        link: JsonRpcConnection | None,
        facts: LinkFacts,
        problem: AsynccamError,
        until: float,
    ) -> str | None:
        """As `_admitted`, where the token provider and the new sign-in take no longer than the call may."""
        left = max(until - asyncio.get_running_loop().time(), 0.001)
        try:
            async with deadline(left, f"renewed sign-in at {self._rpc.url} for {method}"):
                return await self._admitted(refusals, link, facts, problem, until)
        except TimeoutError:
            why = self._rpc.reconnecting.error
            if isinstance(why, AuthenticationError):  # says more than that it took long
                raise why from None
            raise

    async def _admitted(
        self,
        refusals: int,
        link: JsonRpcConnection | None,
        facts: LinkFacts,
        problem: AsynccamError,
        until: float,
    ) -> str | None:
        """Do what may get a refused call through; raises the refusal if there is nothing left.

        Returns:
            What the call has to carry when it is sent again, or None.
        """
        if facts.generation != 1:
            if refusals:
                raise self._advised(problem, facts.secret)
            await self._sign_in_again(link, facts, until)
            return None
        if refusals in (0, 2):  # the sign-in fault
            return facts.secret
        if refusals == 1 and self._credentials.renewable(facts.secret):
            await self._connect_anew(link, until)
            return None
        raise self._advised(problem, facts.secret)

    async def _sign_in_again(self, link: JsonRpcConnection | None, facts: LinkFacts, until: float) -> None:
        """Generation 2: a new token is taken on the same connection."""
        used = facts.secret
        async with self._renewing:
            if link is None or self._rpc.reconnecting.connection is not link or facts.secret != used:
                return  # somebody else was faster
            secret = await self._credentials.secret()
            if secret is None:
                return
            while True:
                try:
                    facts.role, secret = await authenticate_by_any(link, self._credentials, secret)
                    break
                except AuthenticationError as error:
                    if not error.may_pass or asyncio.get_running_loop().time() + _EARLY_PAUSE >= until:
                        raise
                    await asyncio.sleep(_EARLY_PAUSE)
                except AsynccamError as error:
                    raise translated(error, facts.generation, secret) from error
            facts.secret = secret

    def _advised(self, problem: AsynccamError, secret: str | None) -> AsynccamError:
        """The refusal, with what to do about it."""
        if not isinstance(problem, AuthenticationError):
            return problem
        words = advice(secret, problem.message, provided=self._credentials.provided)
        return AuthenticationError(
            f"{problem.message}{words}", code=problem.code, data=problem.data, method=problem.method
        )

    async def _connect_anew(self, link: JsonRpcConnection | None, until: float) -> None:
        """Generation 1: after a token's expiry only a new connection helps."""
        live = self._rpc.reconnecting
        loop = asyncio.get_running_loop()
        async with self._renewing:
            if link is not None and live.connection is link:
                # Before the connection is given up: a provider that fails leaves it as it is.
                await self._credentials.renew()
                # The other calls on it are answered or refused one after the other; none is to be lost.
                with suppress(TimeoutError):
                    async with deadline(_GRACE, "end of the other calls"):
                        await self._idle.wait()
                await link.aclose()
                if live.connection is link:
                    await live.wait_for(ConnectionState.LOST, ConnectionState.WAITING, *_SETTLED[1:])
        state = await live.wait_for(*_SETTLED, timeout=max(until - loop.time(), 0.001))
        if state is not ConnectionState.READY and live.error is not None:
            raise translated(live.error, 1, None)


class PostedCall:
    """A call that has been sent, and is answered or refused later; made by `Caller.post`.

    Attributes:
        sent_at: When it was sent, Unix seconds.
        answered_at: When the answer that counts arrived, Unix seconds; None before.
    """

    def __init__(
        self,
        caller: Caller,
        method: str,
        params: dict[str, Any],
        timeout: float,
        future: "asyncio.Future[Any]",
    ) -> None:
        self.sent_at = unix_now()
        self.answered_at: float | None = None
        self._caller = caller
        self._method = method
        self._params = params
        self._timeout = timeout
        self._until = asyncio.get_running_loop().time() + timeout
        self._future = future
        future.add_done_callback(self._answered)

    async def result(self) -> Any:
        """Wait for the answer; a refusal that passes is met by sending the call again.

        Raises:
            CameraServiceError, TimeoutError: As `Caller.call`.
            StateError: `forget` was called.
        """
        left = max(self._until - asyncio.get_running_loop().time(), 0.001)
        task = asyncio.current_task()
        before = 0 if task is None else task.cancelling()
        try:
            value = await self._caller.call(self._method, self._params, timeout=left, posted=self._future)
        except asyncio.CancelledError:
            if self._future.cancelled() and task is not None and task.cancelling() <= before:
                raise StateError(f"{self._method} was forgotten before it was answered") from None
            raise
        if self._future.exception() is not None:  # another answer than the first one
            self.answered_at = unix_now()
        return value

    def forget(self) -> None:
        """Wait no longer; what has been sent is not called back."""
        self._future.cancel()

    def _answered(self, future: "asyncio.Future[Any]") -> None:
        self.answered_at = unix_now()
