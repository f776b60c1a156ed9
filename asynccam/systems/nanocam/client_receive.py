"""Streams that a media server sends over UDP, received into a file or an HLS playlist by a recorder."""

import asyncio
from contextlib import suppress
from pathlib import Path

from asynccam.errors import AsynccamError, RecordingError
from asynccam.model.filenames import unique_path
from asynccam.recording.events import RecorderStalled
from asynccam.recording.outputs import RecorderOutput
from asynccam.recording.pipeline import Pipeline
from asynccam.recording.recorder import Limits, Recorder
from asynccam.recording.sources import RtpSource
from asynccam.recording.verify import FileVerdict
from asynccam.runtime.tasks import TaskScope
from asynccam.runtime.timing import deadline
from asynccam.systems.nanocam.client_conversation import Conversation, unexpected
from asynccam.systems.nanocam.client_session import ClientTimeouts
from asynccam.systems.nanocam.protocol import (
    VideoRequest,
)
from asynccam.systems.nanocam.wire_answers import (
    Ok,
)


class Receiver:
    """Receives one stream; a context manager that ends it.

    Args:
        port: UDP port to listen at.
        output: Where it goes.
        duration: Seconds from its first frame.
        sender: The server's IP address, or None if that is not known.
    """

    def __init__(self, port: int, output: RecorderOutput, duration: float, sender: str | None = None) -> None:
        everywhere = "::" if sender is not None and ":" in sender else "0.0.0.0"  # noqa: S104
        source = RtpSource(port, everywhere, sender=sender)
        self._recorder = Recorder(
            Pipeline(source, output), name="nanocam stream", limits=Limits(seconds=duration)
        )
        self._told: float | None = None

    @property
    def receiving(self) -> bool:
        """Whether its first frame has come."""
        return self._recorder.first_frame_at is not None

    async def listen(self, timeout: float) -> None:
        """Listen, and return when the first frame has been written, or the recorder gave up: `run` says so.

        Args:
            timeout: Seconds it may take.
        """
        with suppress(AsynccamError):  # kept by the recorder
            await self._recorder.start(timeout=timeout)

    async def run(self) -> tuple[FileVerdict, ...]:
        """Record until the time is over, the stream ends or `stop` is called.

        Returns:
            What is in each file.

        Raises:
            RecordingError: The recorder failed, or nothing is in the files.
        """
        if self._told is not None:
            self._recorder.reset_timer(self._told)
        with self._recorder.events.subscribe(self._stalled, RecorderStalled):
            await self._recorder.wait()
        verdicts = await self._recorder.stop()
        if self._recorder.error is not None:
            raise self._recorder.error
        if not any(verdict.frames for verdict in verdicts):
            raise RecordingError("the stream had no frame")
        return verdicts

    def reset_timer(self, duration: float) -> None:
        """Let it go on for so many seconds from now, or from its first frame if that has not come."""
        self._told = duration
        self._recorder.reset_timer(duration)

    async def stop(self) -> None:
        """End it; what is there is finished properly. Harmless before it began."""
        if self.receiving:
            await self._recorder.stop()

    async def __aenter__(self) -> "Receiver":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._recorder.aclose()

    async def _stalled(self, event: RecorderStalled) -> None:
        """A stream that stopped: nothing tells that it ended."""
        await self._recorder.stop()


async def receive(
    receiver: Receiver,
    conversation: Conversation,
    request: VideoRequest,
    timeouts: ClientTimeouts,
    *,
    override: bool,
) -> tuple[FileVerdict, ...]:
    """Have a stream sent, and receive it to its end; however this ends, a server of our own stops sending.

    Args:
        receiver: New, and open.
        conversation: With the server.
        request: What is asked, with ``udp`` as its format.
        timeouts: How patient it is.
        override: Whether a stream that has the camera is ended.

    Returns:
        What is in each file.

    Raises:
        BusyError: A stream has the camera.
        DeviceError, AuthenticationError: The server refuses.
        ConnectionError, TimeoutError, RemoteProtocolError: As everywhere.
        RecordingError, StorageError: As `Receiver.run`.
    """
    began = False
    async with TaskScope("nanocam stream") as scope:
        try:
            # Listening before the stream begins, so that its first key frame is not missed.
            listening = scope.spawn(receiver.listen(timeouts.capture), name="first frame")
            async with conversation.exchange() as link:
                answer = await conversation.begin(link, request, timeouts.capture, override=override)
                if not isinstance(answer, Ok):
                    raise unexpected(answer, link.peer)
            began = True
            conversation.stream_until = asyncio.get_running_loop().time() + request.duration
            async with deadline(timeouts.first_frame, f"first frame from {link.peer}"):
                await listening
            return await receiver.run()
        finally:
            if began:
                conversation.part_from_ours()
            conversation.stream_until = 0.0


def free_path(path: Path) -> Path:
    """Return this path, or one with a number, where no file is; a recorder makes the file."""

    def check(candidate: Path) -> Path:
        if candidate.exists():
            raise FileExistsError(candidate)
        return candidate

    return unique_path(path, check)
