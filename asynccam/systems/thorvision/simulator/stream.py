"""A simulated camera's stream: GStreamer draws pictures and sends them by SRT, Python adds the metadata.

One ``gst-launch-1.0`` holds both ends. Its pictures come out through a pipe, get their metadata, and go back
in through another pipe to the SRT listener. No code here is shared with what reads recordings. See
docs/thorvision.md and docs/protocols/thorvision.md.
"""

import asyncio
import fcntl
import os
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
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

_STOP_AT_ONCE: Final = StopDeadlines(interrupt=0.5, terminate=0.5)
_LISTEN_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.01
_SMALL_PICTURE: Final = 320 * 240
_SMALL_PIPE: Final = 4096

_START: Final = b"\xff\xd8"
_END: Final = b"\xff\xd9"
_SCAN: Final = 0xDA
# An application segment that no standard uses: GStreamer's JPEG parser passes it on unchanged.
_MARKER: Final = b"\xff\xef"
_RECORD: Final = struct.Struct("<QQIIIIQ")
_SAMPLE_RATE: Final = 30_000
_TICKS_PER_SECOND: Final = 100_000_000
_MAX_FRAME: Final = 64 << 20


@dataclass(slots=True)
class ServerFaults:
    """Faults of a `ThorVisionSimulator`; may be changed while it runs. The default is no fault.

    Attributes:
        never_stream: Accept starts, and send nothing.
        stream_after: Seconds after an accepted start during which nothing listens yet.
        die_after: Seconds after which a stream ends without notice, or None.
        return_after: Seconds after which a stream that died begins again, or None for never.
        refused_ports: Ports on which a start is refused, as if another client used them; None for all.
        refuse_stop: Refuse stops, though they are carried out.
        slow: Seconds before every HTTP response.
        wrong_json: Send responses that are not JSON.
        repeat_added: Send every ``Added`` twice.
    """

    never_stream: bool = False
    stream_after: float = 0.0
    die_after: float | None = None
    return_after: float | None = None
    refused_ports: frozenset[int] | None = frozenset()
    refuse_stop: bool = False
    slow: float = 0.0
    wrong_json: bool = False
    repeat_added: bool = False

    def refuses(self, port: int) -> bool:
        """Return whether a start on a port is refused."""
        return self.refused_ports is None or port in self.refused_ports


class JpegSplitter:
    """Splits a Motion JPEG stream, cut anywhere, into its frames."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._position = 0
        self._in_scan = False

    def feed(self, data: bytes) -> list[bytes]:
        """Add data; return the frames that are complete now."""
        self._data += data
        frames = []
        while (end := self._frame_end()) is not None:
            frames.append(bytes(self._data[:end]))
            del self._data[:end]
            self._position, self._in_scan = 0, False
        if len(self._data) > _MAX_FRAME:
            raise ValueError("a picture without an end")
        return frames

    def _frame_end(self) -> int | None:
        """Return where the first frame ends, or None while it is incomplete."""
        if not self._in_scan and not self._find_scan():
            return None
        # ITU-T T.81 B.1.1.5: in a scan FF is followed by 00 or a restart marker, so this is the end.
        end = self._data.find(_END, self._position)
        if end < 0:
            self._position = max(self._position, len(self._data) - 1)
            return None
        return end + len(_END)

    def _find_scan(self) -> bool:
        """Go through the header segments by their lengths; return whether the scan has begun."""
        if self._position == 0:
            start = self._data.find(_START)
            if start < 0:
                return False
            del self._data[:start]
            self._position = len(_START)
        while len(self._data) >= self._position + 4:
            _, kind, length = struct.unpack_from(">BBH", self._data, self._position)
            self._position += 2 + length
            if kind == _SCAN:
                self._in_scan = True
                return True
        return False


def with_metadata(frame: bytes, index: int, fps: Fraction) -> bytes:
    """Return a frame with XDAQ metadata right after its first two bytes.

    A reader can check the values: the frame's time in nanoseconds, ticks of a 100 MHz clock, samples at
    30 kHz, a square wave on the first TTL line, and the frame's index.
    """
    seconds = index / fps
    record = _RECORD.pack(
        int(seconds * 1_000_000_000),
        int(seconds * _TICKS_PER_SECOND),
        int(seconds * _SAMPLE_RATE) & 0xFFFFFFFF,
        int(seconds) & 1,
        index & 1,
        index & 0xFFFFFFFF,
        0,
    )
    return b"".join((frame[:2], _MARKER, struct.pack(">H", 2 + len(record)), record, frame[2:]))


class SimulatedStream:
    """One stream, from an accepted start to a stop."""

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
        self.made = 0  # frames drawn
        self.sent = 0  # frames passed to the listener; those drawn while no client calls are lost
        self.paused = False  # set to hold frames back on an open connection
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
        # In the URI, because GStreamer 1.22 ignores a mode that is set as a property.
        self._uri = f"srt://{f'[{host}]' if ':' in host else host}:{port}?mode=listener"
        self._latency = latency
        self._faults = faults
        self._scope = TaskScope(f"stream on port {port}")
        self._broken = asyncio.Event()
        self._resumed = asyncio.Event()

    async def start(self) -> None:
        """Listen; a stream that is to be late or silent returns at once."""
        if not self._faults.never_stream:
            await self._scope.start(self._run, name="run", timeout=_LISTEN_SECONDS + 1)

    def break_off(self) -> None:
        """End without notice, as a crashed server does."""
        self._broken.set()

    def begin_again(self) -> None:
        """Resume after `break_off`."""
        self._resumed.set()

    async def aclose(self) -> None:
        """Stop; harmless when called twice."""
        await self._scope.aclose()

    async def _run(self, ready: Ready[None]) -> None:
        if self._faults.stream_after:
            ready(None)
            await asyncio.sleep(self._faults.stream_after)
        while True:
            with _exclusive(self.port):
                await self._stream_once(ready)
            self._broken.clear()
            await _wait(self._resumed, self._faults.return_after)
            self._resumed.clear()

    async def _stream_once(self, ready: Ready[None]) -> None:
        """Stream until the stream is to die."""
        tools = await find_installation()
        drawing = self._picture.stream(tools.elements)
        pictures_out, pictures_in = os.pipe()
        frames_out, frames_in = os.pipe()
        ours, theirs = [pictures_out, frames_in], [pictures_in, frames_out]
        closing: list[Callable[[], None]] = []
        process: LaunchProcess | None = None
        try:
            if self.capability.width * self.capability.height <= _SMALL_PICTURE:
                # So that at most a frame or two wait, and grow old, while no client calls.
                fcntl.fcntl(frames_in, fcntl.F_SETPIPE_SZ, _SMALL_PIPE)
            chain = (*drawing.chain, GstElement("fdsink", {"fd": pictures_in, "sync": False, "async": False}))
            graph = Graph((chain, *drawing.others, self._sender(frames_out)))
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
            forwarder = _FrameForwarder(lambda frame: self._forward(frame, writer))
            reader, _ = await loop.connect_read_pipe(lambda: forwarder, os.fdopen(ours.pop(), "rb", 0))
            closing.append(reader.close)
            await self._wait_for_listener(process)
            ready(None)
            await _wait(self._broken, self._faults.die_after)
        finally:
            for close in closing:
                close()
            for fd in (*ours, *theirs):
                os.close(fd)
            if process is not None:
                await finish(process.stop(_STOP_AT_ONCE))

    def _sender(self, fd: int) -> tuple[GstElement, ...]:
        listener: dict[str, Value] = {
            "uri": self._uri,
            "latency": self._latency,
            "wait-for-connection": True,
            "sync": False,
            "async": False,
        }
        return GstElement("fdsrc", {"fd": fd, "blocksize": 1 << 16}), GstElement("srtsink", listener)

    async def _wait_for_listener(self, process: LaunchProcess) -> None:
        while is_free(self.port):
            done, _ = await asyncio.wait({process.exited}, timeout=_POLL_SECONDS)
            if done:
                raise RecordingError(f"no listener on port {self.port}", output=process.output)

    def _forward(self, frame: bytes, writer: asyncio.WriteTransport) -> None:
        """Add the metadata and send the frame on; a camera does not wait for its viewers."""
        index = self.made
        self.made += 1
        if not self.paused and writer.get_write_buffer_size() == 0 and not writer.is_closing():
            self.sent += 1
            writer.write(with_metadata(frame, index, self._fps))


class _FrameForwarder(asyncio.Protocol):
    """Passes each complete frame that is read to ``forward``."""

    def __init__(self, forward: Callable[[bytes], None]) -> None:
        self._splitter = JpegSplitter()
        self._forward = forward

    def data_received(self, data: bytes) -> None:
        for frame in self._splitter.feed(data):
            self._forward(frame)


@contextmanager
def _exclusive(port: int) -> Iterator[None]:
    """Keep other simulators off a port: SRT would share it with them silently.

    GStreamer binds the port a moment after it was seen to be free. So on Linux a name in the kernel's
    abstract namespace, which only one process can have, is taken first.
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


async def _wait(event: asyncio.Event, seconds: float | None) -> None:
    """Wait for an event, at most so many seconds."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
