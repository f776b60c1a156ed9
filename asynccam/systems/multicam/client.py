"""MultiCamClient: every command of the MultiCam protocol, from the controller's side."""

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final

from asynccam.errors import RemoteProtocolError, RetryableError, UsageError
from asynccam.model.features import Progress
from asynccam.model.info import ClockOffset, LocalFile
from asynccam.net.clock import TimedReply, limiter_of_loop, measure_offset
from asynccam.runtime.retry import Backoff
from asynccam.runtime.timing import deadline
from asynccam.systems.multicam.armed_start import ArmedCommand
from asynccam.systems.multicam.connection import Connection
from asynccam.systems.multicam.fetch import prepare_directory, receive
from asynccam.systems.multicam.link import DeviceLink
from asynccam.systems.multicam.models import (
    COMMAND_TIMEOUT,
    DOWNLOAD_STALL_TIMEOUT,
    MAX_ROUND_TRIP,
    TCP_PORT,
    CommandMessage,
    CommandType,
    DeviceStatus,
    ErrorResponse,
    ListFilesResponse,
    Reply,
    StatusResponse,
    StopRecordingResponse,
)
from asynccam.systems.multicam.protocol import parse_list, parse_status, parse_stop
from asynccam.systems.multicam.vocabulary import RUN_MARK

_AHEAD: Final = 8
"""Connections opened ahead for a clock measurement: devices queue only some."""
_CLOCK_INTERVAL: Final = 0.01
"""Mean seconds between two samples of a clock: they meet the steps of its stamps at different phases."""
_PARSERS: Final[dict[str, Callable[..., Reply]]] = {
    CommandType.STOP_RECORDING: parse_stop,
    CommandType.LIST_FILES: parse_list,
}


class MultiCamClient:
    """One MultiCam device, one connection per command.

    No connection is held between calls, so a client costs nothing while it is idle and any number of
    calls may run at the same time.

    Args:
        host: Name or address of the device, or several addresses of it: all are tried.
        port: TCP port.
        timeout: Seconds a call may take in all, retries included; a stop may need all 60 of them.
        stall_timeout: Seconds without a byte after which a download is given up; there is no other
            limit to a download. It may take long to begin, as some devices pack a file only then.
        device_id: The controller's name in commands.
        retries: How often DEVICE_STATUS, HEARTBEAT and LIST_FILES are sent again after a lost
            connection, and how often a connection for an armed start or a download is tried again.
            START_RECORDING, STOP_RECORDING, UPLOAD_TO_CLOUD and a GET_VIDEO that has left are never
            repeated: see docs/multicam.md, "What is repeated".
        backoff: The waits between tries.
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
        self._stall_timeout = stall_timeout
        self._link = DeviceLink(
            host,
            port,
            timeout=timeout,
            attempts=retries + 1,
            backoff=backoff or Backoff(initial=0.25, maximum=5.0),
        )
        self._armed: list[ArmedCommand] = []

    @property
    def hosts(self) -> tuple[str, ...]:
        """Addresses that are tried; the one that accepted last comes first."""
        return self._link.hosts

    @property
    def port(self) -> int:
        """TCP port."""
        return self._link.port

    @property
    def address(self) -> str:
        """Where the device is reached, ``multicam://host:port``."""
        return self._link.address

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.address}>"

    async def __aenter__(self) -> "MultiCamClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close what `arm` opened; calls that run are their callers'. Harmless when called twice."""
        while self._armed:
            await self._armed.pop().aclose()

    def follow(self, host: str | Sequence[str], port: int) -> None:
        """Use another address, or several, from the next connection on; what runs is not disturbed.

        Raises:
            UsageError: No device can be there.
        """
        self._link.follow(host, port)

    # -- commands ---------------------------------------------------------------------------------

    async def device_status(
        self, *, timeout: float | None = None, first_frame: bool = False
    ) -> StatusResponse:
        """Ask what the device is doing; an error *status* is an answer here, not an exception.

        Args:
            timeout: Seconds, instead of the client's own.
            first_frame: Ask when the recording's first frame was; only asynccam's own device server tells.

        Raises:
            ConnectionError, TimeoutError: It does not answer.
            RemoteProtocolError: It answers nonsense.
        """
        message = CommandMessage.device_status(device_id=self._sender, first_frame=first_frame)
        return parse_status(
            await self._link.exchange(message, timeout=timeout, repeatable=True), peer=self.address
        )

    async def run_mark(self, *, timeout: float | None = None) -> str:
        """Ask for the mark of the device's present run: the same at every address of one device.

        Only asynccam's own device server tells one; ``""`` for all others. See docs/protocols/multicam.md.

        Raises:
            ConnectionError, TimeoutError: It does not answer.
            RemoteProtocolError: It answers nonsense.
        """
        message = CommandMessage(command=CommandType.DEVICE_STATUS, deviceId=self._sender, **{RUN_MARK: True})
        document = await self._link.exchange(message, timeout=timeout, repeatable=True)
        told = (parse_status(document, peer=self.address).model_extra or {}).get(RUN_MARK)
        return told if isinstance(told, str) else ""

    async def heartbeat(self, *, timeout: float | None = None) -> StatusResponse:
        """Ask whether the device is there; arguments and errors as of `device_status`."""
        message = CommandMessage.heartbeat(device_id=self._sender)
        return parse_status(
            await self._link.exchange(message, timeout=timeout, repeatable=True), peer=self.address
        )

    async def start_recording(
        self, timestamp: float | None = None, *, timeout: float | None = None
    ) -> StatusResponse:
        """Start now, or at a time by the device's own clock. Sent once, never repeated.

        An answer ``command_received`` or ``recording`` does not prove that a new recording runs;
        `MultiCamCamera` confirms it by a status query.

        Args:
            timestamp: Unix seconds; None for now.
            timeout: Seconds, instead of the client's own.

        Raises:
            ConnectionError, TimeoutError: No answer; ``maybe_executed`` says whether it had left.
            ClockNotSynchronizedError, DeviceError: The device refuses.
            RemoteProtocolError: It answers nonsense.
        """
        message = CommandMessage.start_recording(timestamp, device_id=self._sender)
        return await self._link.ask(message, parse_status, timeout=timeout)

    async def stop_recording(
        self, *, timeout: float | None = None, first_frame: bool = False
    ) -> StopRecordingResponse:
        """Stop, and learn the file's name. Sent once, never repeated; may take a minute.

        ``fileSize`` is 0 where the device packs the file later: fetch it by the name all the same.
        ``first_frame`` asks when the first frame was, see `device_status`.
        Errors as of `start_recording`.
        """
        message = CommandMessage.stop_recording(device_id=self._sender, first_frame=first_frame)
        return await self._link.ask(message, parse_stop, timeout=timeout)

    async def list_files(self, *, timeout: float | None = None) -> ListFilesResponse:
        """Ask for the recordings on the device.

        Raises:
            DeviceError: The device refuses, or does not know the command.
            ConnectionError, TimeoutError: It does not answer.
            RemoteProtocolError: It answers nonsense.
        """
        message = CommandMessage.list_files(device_id=self._sender)
        return await self._link.ask(message, parse_list, timeout=timeout, repeatable=True)

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

        The credentials cross the network in clear text, for the protocol has no other way; asynccam
        shows them nowhere. Progress is in ``uploadQueue`` of `device_status`.

        Args:
            file_name: The recording's name; one name is sent as both dialects' field.
            file_id: Its id, where it has another one.
            upload_url: A presigned URL for an HTTP PUT; or else all six of the following.
            s3_bucket: Where to.
            s3_key: Where to, in the bucket.
            aws_access_key_id: Credentials for it.
            aws_secret_access_key: Credentials for it.
            aws_session_token: Credentials for it.
            aws_region: Where the bucket is.
            timeout: Seconds, instead of the client's own.

        Raises:
            UsageError: No file, or not exactly one way to upload it.
            NotFoundError, DeviceError: The device refuses.
            ConnectionError, TimeoutError: No answer; ``maybe_executed`` says whether it had left.
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
        return await self._link.ask(message, parse_status, timeout=timeout)

    async def download(
        self,
        name: str,
        directory: Path,
        *,
        file_id: str | None = None,
        size: int | None = None,
        progress: Progress | None = None,
    ) -> LocalFile:
        """Bring one file home whole (GET_VIDEO), under a name made safe, never over an existing file.

        Many devices delete their copy once they have sent it, and nothing resumes. So room on the disk
        is checked before the file is asked for, only a failure to connect is tried again, and whatever
        arrives is kept: a `TransferError` names the part.

        Args:
            name: The file's name or id; sent as both, each dialect reads its own.
            directory: Where it goes; made if missing.
            file_id: Its id, where it has another one.
            size: Bytes the device has listed, to check the room for; None or 0 if it does not know.
            progress: Called with bytes so far and the total, at most about ten times a second.

        Raises:
            NotFoundError, DeviceError: The device refuses.
            ConnectionError, TimeoutError: Nothing of the file came; if ``maybe_executed``, a small
                file may be lost all the same.
            TransferError: The file ended early; what came is kept.
            InsufficientSpaceError, StorageError: This computer's disk.
            RemoteProtocolError: The device sends nonsense.
        """
        message = CommandMessage.get_video(file_id or name, file_name=name, device_id=self._sender)
        payload = self._link.encode(message)
        await prepare_directory(directory, size)
        with await self._link.connect_patiently() as connection:
            await connection.send(payload)
            return await receive(
                connection,
                directory,
                name=name,
                size=size,
                stall_timeout=self._stall_timeout,
                progress=progress,
            )

    async def arm(self) -> ArmedCommand:
        """Open a connection for a start, encode it, and wait to let it go.

        Raises:
            ConnectionError, TimeoutError: The device cannot be reached.
        """
        message = CommandMessage.start_recording(device_id=self._sender)
        armed = ArmedCommand(
            await self._link.connect_patiently(),
            self._link.connect,
            lambda document: self._link.judge(message, document, parse_status),
            sender=self._sender,
            timeout=self._link.timeout,
        )
        self._armed = [one for one in self._armed if not one.closed] + [armed]
        return armed

    async def measure_clock(self, *, samples: int = 8) -> ClockOffset:
        """Compare the device's system clock with this computer's, by HEARTBEAT round trips.

        Connections are opened ahead, a few at a time, so that a round trip is the command's and the
        answer's alone. The device's NTP-corrected clock, by which it starts, may differ from its system
        clock.

        Args:
            samples: How many round trips; those over 0.5 s are not used. All others count together.

        Raises:
            ConnectionError, TimeoutError, RemoteProtocolError: No round trip was of use.
        """
        message = CommandMessage.heartbeat(device_id=self._sender)
        payload = self._link.encode(message)
        with ExitStack() as stack:
            ready: deque[Connection] = deque()
            unopened = samples
            unreachable: RetryableError | None = None

            async def open_some() -> None:
                nonlocal unopened
                count = min(_AHEAD, unopened)
                unopened -= count
                for _ in range(count):
                    ready.append(stack.enter_context(await self._link.connect_patiently()))

            async def probe() -> TimedReply:
                nonlocal unreachable
                if (
                    unreachable is not None
                ):  # It was tried patiently; once more for every sample takes too long.
                    raise unreachable
                if not ready:
                    try:
                        await open_some()
                    except RetryableError as error:
                        unreachable = error
                        raise
                # The oldest first: some devices serve one connection after another.
                with ready.popleft() as connection:
                    async with deadline(self._link.timeout, f"answer from {self.address} to HEARTBEAT"):
                        await connection.send(payload)
                        document = await connection.answer()
                told = parse_status(document, peer=self.address).timestamp
                return TimedReply(connection.sent_at, connection.received_at, told)

            async with limiter_of_loop().place():
                await open_some()
            return await measure_offset(
                probe, samples=samples, max_round_trip=MAX_ROUND_TRIP, interval=_CLOCK_INTERVAL
            )

    async def send(self, message: CommandMessage, *, timeout: float | None = None) -> Reply:
        """Send any command but GET_VIDEO and return the answer as it is, refusals too.

        Args:
            message: The command; sent unchanged and once.
            timeout: Seconds, instead of the client's own.

        Returns:
            `StopRecordingResponse` to a stop, `ListFilesResponse` to LIST_FILES, else `StatusResponse`;
            `ErrorResponse` where a refusal is not even that.

        Raises:
            UsageError: It is a GET_VIDEO; use `download`.
            ConnectionError, TimeoutError, RemoteProtocolError: As everywhere.
        """
        if message.command == CommandType.GET_VIDEO:
            raise UsageError("GET_VIDEO is answered by a file; use download()")
        document = await self._link.exchange(message, timeout=timeout)
        try:
            return _PARSERS.get(message.command, parse_status)(document, peer=self.address)
        except RemoteProtocolError:
            answer = ErrorResponse.from_json(document, peer=self.address)
            if DeviceStatus.is_error(answer.status):
                return answer
            raise
