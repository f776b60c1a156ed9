"""MultiCamClient: every command of the MultiCam protocol, from the controller's side."""

import logging
import os
import shutil
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from asynccam.errors import (
    ConnectionError,
    InsufficientSpaceError,
    RemoteProtocolError,
    RetryableError,
    StorageError,
    TimeoutError,
    TransferError,
    UsageError,
)
from asynccam.model.address import Address
from asynccam.model.digest import DigestName, checked_digest
from asynccam.model.features import Progress
from asynccam.model.info import ClockOffset, LocalFile
from asynccam.model.safe_files import Folder
from asynccam.net.clock import TimedReply, limiter_of_loop, measure_offset
from asynccam.net.tcp import connect_tcp
from asynccam.net.transfer.download import receive_file
from asynccam.net.transfer.partfile import PartFile
from asynccam.runtime.disk import on_disk, storage_errors
from asynccam.runtime.retry import Backoff, retry
from asynccam.runtime.timing import deadline
from asynccam.systems.multicam.connection import ArmedCommand, CommandConnection
from asynccam.systems.multicam.models import (
    COMMAND_TIMEOUT,
    DOWNLOAD_STALL_TIMEOUT,
    MAX_ROUND_TRIP,
    RUN_ID_KEY,
    SAFE_COMMAND_SIZE,
    TCP_PORT,
    CommandMessage,
    CommandType,
    DeviceStatus,
    ErrorResponse,
    FileResponse,
    ListFilesResponse,
    Reply,
    StatusResponse,
    StopRecordingResponse,
    refusal,
)
from asynccam.systems.multicam.protocol import FileReader, encode_command, parse_list

_LOG = logging.getLogger(__name__)
_MAX_OPEN_PROBES: Final = 8
"""Connections opened ahead for a clock measurement; devices queue only a few."""
_CLOCK_INTERVAL: Final = 0.01
"""Mean seconds between clock samples, which must not all meet a device's clock in step."""
_FIRST_BYTES_TIMEOUT: Final = 2.0
"""Seconds to wait for the bytes of a file that was announced with 0 bytes."""
_SILENCE_TIMEOUT: Final = 10.0
"""Seconds without a byte after which a file of unknown size has ended, if the device does not close."""
_PROGRESS_INTERVAL: Final = 0.1
SMALL_FILE: Final = 16 << 20
"""Bytes of disk space required before a file of unknown size is requested.

A file up to about this size fits into the buffers between device and controller, so the device may have
deleted it before a byte was read."""

R = TypeVar("R", bound=Reply)
Parser = Callable[..., R]
"""A parser of `protocol`: ``parser(document, peer=...)``."""

_PARSERS: Final[dict[str, Parser[Reply]]] = {
    CommandType.STOP_RECORDING: StopRecordingResponse.from_json,
    CommandType.LIST_FILES: parse_list,
}
_CREDENTIALS: Final = ("uploadUrl", "awsAccessKeyId", "awsSecretAccessKey", "awsSessionToken")


class MultiCamClient:
    """One MultiCam device, one connection per command.

    No connection is held between calls: an idle client costs nothing, and any number of calls may run at
    the same time.

    All commands raise `ConnectionError` or `TimeoutError` without a reply (``maybe_executed`` is true if the
    command was sent) and `RemoteProtocolError` for an invalid reply. All but `device_status`, `heartbeat` and
    `send` raise a `DeviceError` for a refusal: `ClockNotSynchronizedError`, `NotFoundError` and so on. Their
    ``timeout`` is in seconds and replaces the client's own.

    Args:
        host: Name or address of the device, or several addresses of it, which are all tried.
        port: TCP port.
        timeout: Seconds for a call in all, retries included; a stop may need all 60 of them.
        stall_timeout: Seconds without a byte after which a download fails. A download has no other
            limit, and may take long to begin because some devices pack a file only then.
        device_id: The controller's name in commands.
        retries: How often DEVICE_STATUS, HEARTBEAT and LIST_FILES are sent again after a lost
            connection, and how often a connection for an armed start or a download is tried again.
            START_RECORDING, STOP_RECORDING, UPLOAD_TO_CLOUD and a GET_VIDEO that was sent are never
            repeated: see docs/multicam.md, "What is repeated".
        backoff: Waits between tries.
    """

    def __init__(
        self,
        host: str | Sequence[str],
        port: int = TCP_PORT,
        *,
        timeout: float = COMMAND_TIMEOUT,
        stall_timeout: float = DOWNLOAD_STALL_TIMEOUT,
        device_id: str = "controller",
        retries: int = 2,
        backoff: Backoff | None = None,
    ) -> None:
        if timeout <= 0 or stall_timeout <= 0 or retries < 0:
            raise UsageError("timeouts must be positive and retries not negative")
        self._sender = device_id
        self._timeout = timeout
        self._stall_timeout = stall_timeout
        self._attempts = retries + 1
        self._backoff = backoff or Backoff(initial=0.25, maximum=5.0)
        self._armed: list[ArmedCommand] = []
        self.follow(host, port)

    @property
    def hosts(self) -> tuple[str, ...]:
        """Addresses that are tried, the last one that accepted first."""
        return self._hosts

    @property
    def port(self) -> int:
        """TCP port."""
        return self._port

    @property
    def address(self) -> str:
        """Address of the device, ``multicam://host:port``."""
        return self._address

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.address}>"

    async def __aenter__(self) -> "MultiCamClient":
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close armed starts; running calls belong to their callers. May be called twice."""
        while self._armed:
            await self._armed.pop().aclose()

    def follow(self, host: str | Sequence[str], port: int) -> None:
        """Use another address, or several, from the next connection on; running calls are not disturbed.

        Raises:
            UsageError: Not a host and a port from 1 to 65535.
        """
        hosts = (host,) if isinstance(host, str) else tuple(host)
        if not hosts or not all(hosts) or not 1 <= port <= 65535:
            raise UsageError(f"not where a device can be: {', '.join(hosts) or 'no host'}, port {port}")
        self._use(hosts, port)

    def _use(self, hosts: tuple[str, ...], port: int) -> None:
        self._hosts = hosts
        self._port = port
        self._address = str(Address("multicam", hosts[0], port))

    # -- commands ---------------------------------------------------------------------------------

    async def device_status(
        self, *, timeout: float | None = None, first_frame: bool = False
    ) -> StatusResponse:
        """Return the state of the device; an error *status* is returned, not raised.

        ``first_frame`` requests the time of the recording's first frame, which only asynccam's own device
        server reports.
        """
        payload = encode_command(CommandType.DEVICE_STATUS, self._sender, first_frame=first_frame)
        return await self._status(CommandType.DEVICE_STATUS, payload, timeout)

    async def run_id(self, *, timeout: float | None = None) -> str:
        """Return the id of the device's present run, which is the same at every address of one device.

        Only asynccam's own device server has one; ``""`` for all others. See docs/protocols/multicam.md.
        """
        run_id_request: dict[str, Any] = {RUN_ID_KEY: True}
        message = CommandMessage(command=CommandType.DEVICE_STATUS, deviceId=self._sender, **run_id_request)
        status = await self._status(CommandType.DEVICE_STATUS, message.to_bytes(), timeout)
        run_id = (status.model_extra or {}).get(RUN_ID_KEY)
        return run_id if isinstance(run_id, str) else ""

    async def heartbeat(self, *, timeout: float | None = None) -> StatusResponse:
        """Check that the device answers, and return its status."""
        payload = encode_command(CommandType.HEARTBEAT, self._sender)
        return await self._status(CommandType.HEARTBEAT, payload, timeout)

    async def start_recording(
        self, timestamp: float | None = None, *, timeout: float | None = None
    ) -> StatusResponse:
        """Start now, or at ``timestamp`` (Unix seconds) by the device's own clock. Sent once, never repeated.

        A reply ``command_received`` or ``recording`` does not prove that a new recording runs;
        `MultiCamCamera` confirms it by a status query.
        """
        command = CommandType.START_RECORDING
        payload = encode_command(command, self._sender, timestamp)
        document = await self._exchange(command, payload, timeout=timeout)
        return self._parse(command, document, StatusResponse.from_json)

    async def stop_recording(
        self, *, timeout: float | None = None, first_frame: bool = False
    ) -> StopRecordingResponse:
        """Stop, and return the file's name. Sent once, never repeated; may take a minute.

        ``fileSize`` is 0 where the device packs the file later: download it by its name all the same.
        ``first_frame`` requests the time of the first frame, see `device_status`.
        """
        command = CommandType.STOP_RECORDING
        payload = encode_command(command, self._sender, first_frame=first_frame)
        document = await self._exchange(command, payload, timeout=timeout)
        return self._parse(command, document, StopRecordingResponse.from_json)

    async def list_files(self, *, timeout: float | None = None) -> ListFilesResponse:
        """Return the recordings on the device; old devices refuse the command."""
        command = CommandType.LIST_FILES
        payload = encode_command(command, self._sender)
        document = await self._exchange(command, payload, timeout=timeout, repeatable=True)
        return self._parse(command, document, parse_list)

    async def upload_to_cloud(
        self,
        file_name: str | None = None,
        *,
        file_id: str | None = None,
        upload_url: str | None = None,
        s3_bucket: str | None = None,
        s3_key: str | None = None,
        aws_access_key_id: str | None = None,
        aws_secret_access_key: str | None = None,
        aws_session_token: str | None = None,
        aws_region: str | None = None,
        timeout: float | None = None,
    ) -> StatusResponse:
        """Have the device upload a recording and then delete it. Sent once, never repeated.

        Give a presigned ``upload_url`` for an HTTP PUT, or else all six S3 arguments. ``file_name`` and
        ``file_id`` name the recording; one alone is sent as both dialects' field. The protocol carries
        the credentials in clear text; asynccam shows them nowhere. Progress is in ``uploadQueue`` of
        `device_status`.

        Raises:
            UsageError: No file, or not exactly one way to upload it.
        """
        message = CommandMessage.upload_to_cloud(
            file_name or file_id,
            file_id=file_id or file_name,
            upload_url=upload_url,
            s3_bucket=s3_bucket,
            s3_key=s3_key,
            aws_access_key_id=aws_access_key_id,
            aws_secret_access_key=aws_secret_access_key,
            aws_session_token=aws_session_token,
            aws_region=aws_region,
            device_id=self._sender,
        )
        document = await self._exchange(message.command, message.to_bytes(), timeout=timeout)
        secrets = [value for name in _CREDENTIALS if (value := getattr(message, name))]
        return self._parse(message.command, document, StatusResponse.from_json, secrets=secrets)

    async def send(self, message: CommandMessage, *, timeout: float | None = None) -> Reply:
        """Send any command but GET_VIDEO, unchanged and once, and return its reply, refusals too.

        Returns:
            `StopRecordingResponse` to a stop, `ListFilesResponse` to LIST_FILES, else `StatusResponse`;
            `ErrorResponse` for a refusal that is not a valid response of that class.

        Raises:
            UsageError: It is a GET_VIDEO; use `download`.
        """
        if message.command == CommandType.GET_VIDEO:
            raise UsageError("GET_VIDEO is answered by a file; use download()")
        document = await self._exchange(message.command, message.to_bytes(), timeout=timeout)
        try:
            return _PARSERS.get(message.command, StatusResponse.from_json)(document, peer=self.address)
        except RemoteProtocolError:
            reply = ErrorResponse.from_json(document, peer=self.address)
            if DeviceStatus.is_error(reply.status):
                return reply
            raise

    # -- armed starts and clocks ------------------------------------------------------------------

    async def arm(self) -> ArmedCommand:
        """Open a connection for a start, encode the command, and wait for its release.

        Raises:
            ConnectionError, TimeoutError: The device cannot be reached.
        """
        armed = ArmedCommand(
            await self._connect_with_retry(),
            partial(self._connect, timeout=self._timeout),
            partial(self._parse, CommandType.START_RECORDING, parser=StatusResponse.from_json),
            sender=self._sender,
            timeout=self._timeout,
        )
        self._armed = [command for command in self._armed if not command.closed] + [armed]
        return armed

    async def measure_clock(self, *, samples: int = 8) -> ClockOffset:
        """Compare the device's system clock with this computer's, by HEARTBEAT round trips.

        Connections are opened ahead, a few at a time, so that a round trip holds the command and the
        reply alone. Round trips over 0.5 s are not used. The device's NTP-corrected clock, by which it
        starts, may differ from its system clock.

        Raises:
            ConnectionError, TimeoutError, RemoteProtocolError: No round trip could be used.
        """
        payload = encode_command(CommandType.HEARTBEAT, self._sender)
        with ExitStack() as stack:
            ready: deque[CommandConnection] = deque()
            unopened = samples
            unreachable: RetryableError | None = None

            async def open_some() -> None:
                nonlocal unopened
                count = min(_MAX_OPEN_PROBES, unopened)
                unopened -= count
                async with deadline(self._timeout, f"connection to {self._address}"):
                    for _ in range(count):
                        ready.append(stack.enter_context(await self._retry_connect()))

            async def probe() -> TimedReply:
                nonlocal unreachable
                # Connecting was retried once; again for every sample would take too long.
                if unreachable is not None:
                    raise unreachable
                if not ready:
                    try:
                        await open_some()
                    except RetryableError as error:
                        unreachable = error
                        raise
                # The oldest first: some devices serve one connection after another.
                with ready.popleft() as connection:
                    async with deadline(self._timeout, f"answer from {self.address} to HEARTBEAT"):
                        await connection.send(payload)
                        document = await connection.read_reply()
                device_time = StatusResponse.from_json(document, peer=self.address).timestamp
                return TimedReply(connection.sent_at, connection.received_at, device_time)

            async with limiter_of_loop().slot():
                await open_some()
            return await measure_offset(
                probe, samples=samples, max_round_trip=MAX_ROUND_TRIP, interval=_CLOCK_INTERVAL
            )

    # -- downloads --------------------------------------------------------------------------------

    async def download(
        self,
        name: str,
        directory: Path,
        *,
        file_id: str | None = None,
        size: int | None = None,
        progress: Progress | None = None,
        digest: DigestName | None = "sha256",
    ) -> LocalFile:
        """Download one file whole (GET_VIDEO), under a name made safe, never over an existing file.

        Many devices delete their copy once its last byte is written to the socket, and no transfer can be
        resumed. So disk space is checked before the file is requested, only a failure to connect is
        retried, and whatever was received is kept: a `TransferError` names the part.

        Args:
            name: The file's name or id; sent as both, each dialect reads its own.
            directory: Created if missing.
            file_id: Its id, where that differs from the name.
            size: Bytes the device has listed, for the space check; None or 0 if unknown.
            progress: Called with bytes so far and the total, at most about ten times a second.
            digest: Algorithm of the digest; None for no digest.

        Raises:
            NotFoundError, DeviceError: The device refuses.
            ConnectionError, TimeoutError: Nothing of the file was received; if ``maybe_executed``, a
                small file may be lost all the same.
            TransferError: The file ended early; the part is kept.
            InsufficientSpaceError, StorageError: This computer's disk.
            RemoteProtocolError: The reply is neither a file nor a refusal.
            UsageError: The package that computes the digest is not installed; nothing was requested.
        """
        checked_digest(digest)
        message = CommandMessage.get_video(file_id or name, file_name=name, device_id=self._sender)
        payload = message.to_bytes()
        self._check_size(message.command, payload)
        await _prepare_directory(directory, size)
        with await self._connect_with_retry() as connection:
            await connection.send(payload)
            return await self._receive_file(connection, directory, name, size, progress, digest)

    async def _receive_file(
        self,
        connection: CommandConnection,
        directory: Path,
        name: str,
        listed_size: int | None,
        progress: Progress | None,
        digest: DigestName | None,
    ) -> LocalFile:
        reader = FileReader(peer=connection.peer)
        async with deadline(
            self._stall_timeout, f"file from {connection.peer} ({name!r})", maybe_executed=True
        ):
            header = await _read_header(connection, reader, name)
        if listed_size and listed_size != header.fileSize:
            _LOG.warning(
                "%s listed %r with %d bytes and now announces %s",
                connection.peer,
                name,
                listed_size,
                header.fileSize,
            )
        name, size = header.fileName or name, header.fileSize
        first = reader.leftover if size else b""
        opening = PartFile.open(directory, name, size=size or None, digest=digest, first=first)
        async with await opening as part:
            if size:
                await receive_file(
                    connection.sock,
                    part,
                    size,
                    stall_timeout=self._stall_timeout,
                    progress=progress,
                )
            else:
                await _receive_unsized(
                    connection,
                    part,
                    reader.leftover,
                    name,
                    announced=size,
                    listed=listed_size or 0,
                    stall_timeout=self._stall_timeout,
                    progress=progress,
                )
            return await part.commit(name)

    # -- connections ------------------------------------------------------------------------------

    async def _connect(self, *, timeout: float | None) -> CommandConnection:
        """Open a connection for one command; the address that accepted is tried first from then on."""
        hosts, port = self._hosts, self._port
        sock = await connect_tcp(hosts, port, timeout=timeout)
        if len(hosts) > 1 and hosts == self._hosts:
            reached = _peer_host(sock)
            self._use(tuple(sorted(hosts, key=lambda host: host.partition("%")[0] != reached)), port)
        return CommandConnection(sock, self._address)

    async def _connect_with_retry(self) -> CommandConnection:
        """Connect, retrying: nothing has been sent yet."""
        async with deadline(self._timeout, f"connection to {self._address}"):
            return await self._retry_connect()

    async def _retry_connect(self) -> CommandConnection:
        connect = partial(self._connect, timeout=None)
        return await retry(connect, attempts=self._attempts, backoff=self._backoff)

    def _check_size(self, command: str, payload: bytes) -> None:
        if len(payload) > SAFE_COMMAND_SIZE:
            _LOG.warning(
                "%s to %s is %d bytes long; some devices read only the first %d and drop it",
                command,
                self._address,
                len(payload),
                SAFE_COMMAND_SIZE,
            )

    async def _exchange(
        self, command: str, payload: bytes, *, timeout: float | None = None, repeatable: bool = False
    ) -> bytes:
        """Send a command and return the reply's JSON document; retry it only if ``repeatable``."""
        self._check_size(command, payload)
        seconds = self._timeout if timeout is None else timeout
        # The call's own deadline comes first, unless the call may take longer than the client's.
        connect_timeout = None if seconds <= self._timeout else self._timeout
        sent = False

        async def attempt() -> bytes:
            nonlocal sent
            with await self._connect(timeout=connect_timeout) as connection:
                sent = True
                await connection.send(payload)
                return await connection.read_reply()

        try:
            async with deadline(seconds, f"answer from {self._address} to {command}"):
                if not repeatable:
                    return await attempt()
                return await retry(attempt, attempts=self._attempts, backoff=self._backoff)
        except TimeoutError as error:
            error.maybe_executed = sent
            raise

    async def _status(self, command: str, payload: bytes, timeout: float | None) -> StatusResponse:
        document = await self._exchange(command, payload, timeout=timeout, repeatable=True)
        return StatusResponse.from_json(document, peer=self._address)

    def _parse(self, command: str, document: bytes, parser: Parser[R], *, secrets: Sequence[str] = ()) -> R:
        """Parse a reply; raise a `DeviceError`, without the command's ``secrets``, if it is a refusal."""
        try:
            reply = parser(document, peer=self._address)
        except RemoteProtocolError:
            # A refusal may hold nothing but its status.
            error = ErrorResponse.from_json(document, peer=self._address)
            if DeviceStatus.is_error(error.status):
                raise refusal(self._address, command, error, secrets=secrets) from None
            raise
        if DeviceStatus.is_error(reply.status):
            raise refusal(self._address, command, reply, secrets=secrets)
        return reply


def _peer_host(sock: socket.socket) -> str:
    """Return the peer's address without a zone, ``""`` if the connection was lost already."""
    try:
        return str(sock.getpeername()[0]).partition("%")[0]
    except OSError:
        return ""


async def _prepare_directory(directory: Path, size: int | None) -> None:
    """Check that a file can be stored, before the device is asked for it and deletes its copy."""
    needed = size or SMALL_FILE

    def prepare() -> int:
        with storage_errors("store files in", directory):
            Folder(directory, make=True).close()
            if not os.access(directory, os.W_OK | os.X_OK):
                raise StorageError(f"cannot store files in {directory}: no permission to write there")
            return shutil.disk_usage(directory).free

    free = await on_disk(prepare)
    if free < needed:
        raise InsufficientSpaceError(
            f"{directory} has {free} bytes free, {needed} are wanted; the device was not asked for the file",
            needed=needed,
            free=free,
        )


async def _read_header(connection: CommandConnection, reader: FileReader, name: str) -> FileResponse:
    while True:
        data = await connection.receive()
        if not data:
            raise ConnectionError(
                f"{connection.peer} closed the connection before it sent {name!r}", maybe_executed=True
            )
        reply = reader.feed(data)
        if isinstance(reply, ErrorResponse):
            raise refusal(connection.peer, "GET_VIDEO", reply)
        if reply is not None:
            return reply


async def _receive_unsized(
    connection: CommandConnection,
    part: PartFile,
    prefix: bytes,
    name: str,
    *,
    announced: int | None,  # 0 or None
    listed: int,  # size in the device's list, or 0
    stall_timeout: float,
    progress: Progress | None,
) -> None:
    """Fill a part with a file of unknown size: it ends when the device closes, or falls silent."""
    reported_at = 0.0
    lost: ConnectionError | None = None
    data = prefix
    try:
        while data or (data := await _receive_more(connection, part.received, listed, stall_timeout)):
            await part.write(data)
            data = b""
            if progress is not None and time.monotonic() - reported_at >= _PROGRESS_INTERVAL:
                reported_at = time.monotonic()
                progress(part.received, None)
    except ConnectionError as error:
        if not part.received:
            raise
        lost = error
    if not part.received and announced is None:
        raise RemoteProtocolError(f"{connection.peer} announced no size for {name!r}, and sent nothing")
    if part.received < listed or lost is not None:
        raise TransferError(
            f"{name} from {connection.peer} ended after {part.received} of"
            f" {listed or 'an unknown number of'} bytes",
            part=await part.keep(),
            received=part.received,
            expected=listed or None,
        ) from lost
    if progress is not None:
        progress(part.received, part.received)


async def _receive_more(
    connection: CommandConnection, received: int, listed: int, stall_timeout: float
) -> bytes:
    """Return more bytes, or nothing at the end."""
    timeout = _FIRST_BYTES_TIMEOUT if not received and not listed else _SILENCE_TIMEOUT
    if received and received == listed:
        timeout = _FIRST_BYTES_TIMEOUT
    elif listed:
        timeout = stall_timeout
    try:
        async with deadline(min(timeout, stall_timeout), "more bytes"):
            return await connection.receive()
    except TimeoutError:
        return b""
