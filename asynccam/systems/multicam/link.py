"""How a device is reached: its addresses, a connection for each command, deadlines, what is repeated."""

import socket
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from asynccam.errors import RemoteProtocolError, TimeoutError, UsageError
from asynccam.model.address import Address
from asynccam.net.tcp import connect_tcp
from asynccam.runtime.retry import Backoff, retry
from asynccam.runtime.timing import deadline
from asynccam.systems.multicam.connection import Connection, warn_if_long
from asynccam.systems.multicam.errors import refusal
from asynccam.systems.multicam.models import CommandMessage, DeviceStatus, ErrorResponse, Reply

R = TypeVar("R", bound=Reply)
Parser = Callable[..., R]
"""One of the parsers of `wire`: ``parser(document, peer=...)``."""

_CREDENTIALS: Final = ("uploadUrl", "awsAccessKeyId", "awsSecretAccessKey", "awsSessionToken")


class DeviceLink:
    """Exchanges commands with one device; holds no connection between them.

    Args:
        host: Name or address, or several addresses.
        port: TCP port.
        timeout: Seconds for a whole exchange, retries included.
        attempts: Tries where trying again is safe.
        backoff: Waits between them.
    """

    def __init__(
        self, host: str | Sequence[str], port: int, *, timeout: float, attempts: int, backoff: Backoff
    ) -> None:
        self.timeout = timeout
        self._attempts = attempts
        self._backoff = backoff
        self.follow(host, port)

    @property
    def address(self) -> str:
        """Where the device is reached, ``multicam://host:port``; names it in errors."""
        return str(Address("multicam", self.hosts[0], self.port))

    def follow(self, host: str | Sequence[str], port: int) -> None:
        """Use another address, or several, from the next connection on."""
        hosts = (host,) if isinstance(host, str) else tuple(host)
        if not hosts or not all(hosts) or not 1 <= port <= 65535:
            raise UsageError(f"not where a device can be: {', '.join(hosts) or 'no host'}, port {port}")
        self.hosts = hosts
        self.port = port

    async def connect(self) -> Connection:
        """Open a connection for one command; the address that accepted comes first from then on.

        Raises:
            ConnectionError, TimeoutError: The device cannot be reached.
        """
        hosts, port = self.hosts, self.port
        sock = await connect_tcp(hosts, port, timeout=self.timeout)
        if len(hosts) > 1 and hosts == self.hosts:
            reached = _reached(sock)
            self.hosts = tuple(sorted(hosts, key=lambda host: host.partition("%")[0] != reached))
        return Connection(sock, self.address)

    async def connect_patiently(self) -> Connection:
        """`connect`, tried again, for nothing has been sent yet."""
        async with deadline(self.timeout, f"connection to {self.address}"):
            return await retry(self.connect, attempts=self._attempts, backoff=self._backoff)

    def encode(self, message: CommandMessage) -> bytes:
        """A command as it leaves, with a warning in the log if it is longer than all devices can read."""
        payload = message.to_bytes()
        warn_if_long(payload, message.command, self.address)
        return payload

    async def exchange(
        self, message: CommandMessage, *, timeout: float | None = None, repeatable: bool = False
    ) -> bytes:
        """Send a command and return the answer's JSON document.

        Args:
            message: The command.
            timeout: Seconds instead of the link's own.
            repeatable: Whether it may be sent again after a lost connection.

        Raises:
            ConnectionError, TimeoutError: No answer; ``maybe_executed`` says whether it had left.
            RemoteProtocolError: What came is no answer.
        """
        payload = self.encode(message)
        left = False

        async def attempt() -> bytes:
            nonlocal left
            with await self.connect() as connection:
                left = True
                await connection.send(payload)
                return await connection.answer()

        try:
            async with deadline(
                self.timeout if timeout is None else timeout,
                f"answer from {self.address} to {message.command}",
            ):
                return await retry(
                    attempt, attempts=self._attempts if repeatable else 1, backoff=self._backoff
                )
        except TimeoutError as error:
            error.maybe_executed = left
            raise

    async def ask(
        self,
        message: CommandMessage,
        parser: Parser[R],
        *,
        timeout: float | None = None,
        repeatable: bool = False,
    ) -> R:
        """`exchange`, parsed; a refusal is raised as the error it means."""
        document = await self.exchange(message, timeout=timeout, repeatable=repeatable)
        return self.judge(message, document, parser)

    def judge(self, message: CommandMessage, document: bytes, parser: Parser[R]) -> R:
        """Parse an answer.

        Raises:
            ClockNotSynchronizedError, NotFoundError, DeviceError: It is a refusal.
            RemoteProtocolError: It is no answer.
        """
        secrets = [value for name in _CREDENTIALS if (value := getattr(message, name))]
        try:
            answer = parser(document, peer=self.address)
        except RemoteProtocolError:
            # A refusal may hold nothing but its status.
            error = ErrorResponse.from_json(document, peer=self.address)
            if DeviceStatus.is_error(error.status):
                raise refusal(self.address, message.command, error, secrets=secrets) from None
            raise
        if DeviceStatus.is_error(answer.status):
            raise refusal(self.address, message.command, answer, secrets=secrets)
        return answer


def _reached(sock: socket.socket) -> str:
    """The address at the other end, without a zone; nothing if it has gone again already."""
    try:
        return str(sock.getpeername()[0]).partition("%")[0]
    except OSError:
        return ""
