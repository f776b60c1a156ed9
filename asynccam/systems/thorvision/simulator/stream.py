"""A simulated camera's stream: GStreamer makes pictures and sends them by SRT, Python between the two.

One ``gst-launch-1.0`` holds both ends. Its pictures come out through a pipe, get their metadata, and
go back in through another one to the SRT listener. See docs/thorvision.md.
"""

import asyncio
import fcntl
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Final

from asynccam.errors import RecordingError
from asynccam.recording import StopDeadlines, TestPattern
from asynccam.recording.elements import Graph, GstElement, Value
from asynccam.recording.gstreamer import find_installation
from asynccam.recording.process import LaunchProcess
from asynccam.runtime.tasks import Ready, TaskScope, finish
from asynccam.systems.thorvision.models import Capability
from asynccam.systems.thorvision.ports import is_free
from asynccam.systems.thorvision.simulator.faults import ServerFaults
from asynccam.systems.thorvision.simulator.frames import JpegSplitter, with_metadata

_AT_ONCE: Final = StopDeadlines(interrupt=0.5, terminate=0.5)
_LISTEN_SECONDS: Final = 10.0
_LOOK_SECONDS: Final = 0.01
_SMALL_PICTURE: Final = 320 * 240
_SMALL_PIPE: Final = 4096


class SimulatedStream:
    """One stream, from an accepted start to a stop.

    Args:
        label: Shown in the picture beside the time of day.
        capability: Size and rate of the picture.
        host: Address to listen at.
        port: Port to listen on.
        latency: Milliseconds within which SRT mends losses.
        faults: Whether it is late, or dies.

    Attributes:
        made: Frames that were made.
        sent: Frames that went to the listener; those made while nobody calls are lost.
        paused: Set to hold frames back while the connection stands.
        begins: How often the listener came up.
    """

    def __init__(
        self,
        label: str,
        capability: Capability,
        *,
        host: str,
        port: int,
        latency: int,
        faults: ServerFaults,
    ) -> None:
        self.capability = capability
        self.port = port
        self.made = 0
        self.sent = 0
        self.begins = 0
        self.paused = False
        self._fps = capability.fps or Fraction(30)
        self._picture = TestPattern(
            label,
            pattern="spokes",
            width=capability.width,
            height=capability.height,
            fps=self._fps,
            codec="jpeg",
            time_code="day",
        )
        # In the address, because GStreamer 1.22 forgets a mode that is set beside it.
        self._uri = f"srt://{f'[{host}]' if ':' in host else host}:{port}?mode=listener"
        self._latency = latency
        self._faults = faults
        self._scope = TaskScope(f"stream on port {port}")
        self._broken = asyncio.Event()
        self._mended = asyncio.Event()

    async def start(self) -> None:
        """Begin to listen; a stream that is to be late or silent returns at once.

        Raises:
            RecordingError: GStreamer cannot, for example because the port is taken.
        """
        if not self._faults.never_stream:
            await self._scope.start(self._run, name="run", timeout=_LISTEN_SECONDS + 1)

    def break_off(self) -> None:
        """Die without a word, as a crashed server does."""
        self._broken.set()

    def begin_again(self) -> None:
        """Come back after `break_off`."""
        self._mended.set()

    async def aclose(self) -> None:
        """End it; harmless when called twice."""
        await self._scope.aclose()

    async def _run(self, ready: Ready[None]) -> None:
        if self._faults.stream_after:
            ready(None)
            await asyncio.sleep(self._faults.stream_after)
        while True:
            await self._stream_once(ready)
            self._broken.clear()
            await _passed(self._mended, self._faults.return_after)
            self._mended.clear()

    async def _stream_once(self, ready: Ready[None]) -> None:
        """Stream until it is to die."""
        with _alone_on(self.port):
            await self._stream_alone(ready)

    async def _stream_alone(self, ready: Ready[None]) -> None:
        tools = await find_installation()
        drawing = self._picture.stream(tools.elements)
        pictures_out, pictures_in = os.pipe()
        frames_out, frames_in = os.pipe()
        ours, theirs = [pictures_out, frames_in], [pictures_in, frames_out]
        closing: list[Callable[[], None]] = []
        process: LaunchProcess | None = None
        try:
            if self.capability.width * self.capability.height <= _SMALL_PICTURE:
                # So that no more than a frame or two wait, and grow old, while nobody calls.
                fcntl.fcntl(frames_in, fcntl.F_SETPIPE_SZ, _SMALL_PIPE)
            chain = (*drawing.chain, GstElement("fdsink", {"fd": pictures_in, "sync": False, "async": False}))
            graph = Graph((chain, *drawing.others, self._sending(frames_out)))
            await find_installation(graph.factories)
            process = await LaunchProcess.start(
                [*tools.guard, tools.launch, "-q", *graph.arguments()],
                lambda _: None,
                feed=drawing.feed() if drawing.feed is not None else None,
                pass_fds=theirs,
            )
            while theirs:
                os.close(theirs.pop())
            loop = asyncio.get_running_loop()
            writer, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(ours.pop(), "wb", 0))
            closing.append(writer.abort)
            carrier = _Carrier(self._carry, writer)
            reader, _ = await loop.connect_read_pipe(lambda: carrier, os.fdopen(ours.pop(), "rb", 0))
            closing.append(reader.close)
            await self._listening(process)
            self.begins += 1
            ready(None)
            await _passed(self._broken, self._faults.die_after)
        finally:
            for close in closing:
                close()
            for fd in (*ours, *theirs):
                os.close(fd)
            if process is not None:
                await finish(process.stop(_AT_ONCE))

    def _sending(self, fd: int) -> tuple[GstElement, ...]:
        listener: dict[str, Value] = {
            "uri": self._uri,
            "latency": self._latency,
            "wait-for-connection": True,
            "sync": False,
            "async": False,
        }
        return GstElement("fdsrc", {"fd": fd, "blocksize": 1 << 16}), GstElement("srtsink", listener)

    async def _listening(self, process: LaunchProcess) -> None:
        """Wait until the port is bound."""
        while is_free(self.port):
            done, _ = await asyncio.wait({process.exited}, timeout=_LOOK_SECONDS)
            if done:
                raise RecordingError(f"no listener on port {self.port}", output=process.output)

    def _carry(self, frame: bytes, writer: asyncio.WriteTransport) -> None:
        """Give a frame its metadata and send it on; a camera does not wait for those who watch it."""
        number = self.made
        self.made += 1
        if not self.paused and writer.get_write_buffer_size() == 0 and not writer.is_closing():
            self.sent += 1
            writer.write(with_metadata(frame, number, self._fps))


class _Carrier(asyncio.Protocol):
    """Hands on every whole frame of what is read."""

    def __init__(
        self, carry: Callable[[bytes, asyncio.WriteTransport], None], writer: asyncio.WriteTransport
    ) -> None:
        self._splitter = JpegSplitter()
        self._carry = carry
        self._writer = writer

    def data_received(self, data: bytes) -> None:
        for frame in self._splitter.feed(data):
            self._carry(frame, self._writer)


@contextmanager
def _alone_on(port: int) -> Iterator[None]:
    """Keep other simulators off a port, which SRT would share with them without a word.

    GStreamer binds the port a moment after it was seen to be free. So on Linux a name that only one
    process can have, in the kernel's own space of names, is taken first.

    Raises:
        RecordingError: The port is in use.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as claim:
        try:
            if sys.platform == "linux":
                claim.bind(f"\0asynccam SRT port {port}")
        except OSError:
            raise RecordingError(f"port {port} is in use by another simulator") from None
        if not is_free(port):
            raise RecordingError(f"port {port} is in use")
        yield


async def _passed(event: asyncio.Event, seconds: float | None) -> None:
    """Wait for an event, or until some seconds have passed."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
