"""Frames in memory as NumPy arrays, through a pipe from a recorder's process.

The pipe carries GStreamer's data protocol (GDP) 1.0: packets of a 62-byte header and a payload, which is a
frame, the caps of the frames that follow, or an event. So the size of each frame is known.
"""

import asyncio
import fcntl
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, Literal

from asynccam.errors import RecordingError
from asynccam.outside import clean_text
from asynccam.runtime.timing import deadline

if TYPE_CHECKING:
    import numpy

    Frame = numpy.ndarray[Any, numpy.dtype[numpy.uint8]]
    """Height x width x 3 bytes, blue first, as in OpenCV."""

_HEADER: Final = 62
_BUFFER: Final = 1
_CAPS: Final = 2
_LARGEST: Final = 16384
_LARGEST_TEXT: Final = 1 << 16
_PIPE_BYTES: Final = 1 << 20
_F_SETPIPE_SZ: Final = getattr(fcntl, "F_SETPIPE_SZ", None)
_SIZE: Final = re.compile(rb"\b(width|height)=\(int\)(\d{1,5})\b")
_BLUE_FIRST: Final = re.compile(rb"^video/x-raw\b.*\bformat=\(string\)BGR\b", re.DOTALL)


async def require_numpy() -> None:
    """Import NumPy, off the loop because it reads many files."""
    try:
        await asyncio.to_thread(import_module, "numpy")
    except ImportError:
        raise RecordingError('frames in memory need NumPy: pip install "asynccam[video]"') from None


@dataclass(slots=True)
class _Packet:
    """Packet that is arriving."""

    kind: int
    payload: bytearray
    filled: int = 0


class GdpFrameReader:
    """Parses GDP packets, cut anywhere, into frames."""

    def __init__(self) -> None:
        self._header = bytearray()
        self._packet: _Packet | None = None
        self._size: tuple[int, int] | None = None

    def feed(self, data: bytes) -> "Iterator[Frame]":
        """Add data; yield each frame that it completes."""
        view = memoryview(data)
        while view or self._complete:
            if self._packet is None:
                taken = view[: _HEADER - len(self._header)]
                self._header += taken
                if len(self._header) == _HEADER:
                    self._packet = self._begin(bytes(self._header))
                    self._header.clear()
            else:
                packet = self._packet
                taken = view[: len(packet.payload) - packet.filled]
                packet.payload[packet.filled : packet.filled + len(taken)] = taken
                packet.filled += len(taken)
                if packet.filled == len(packet.payload):
                    self._packet = None
                    if packet.kind == _BUFFER:
                        yield self._frame(packet.payload)
                    elif packet.kind == _CAPS:
                        self._size = _read_caps(bytes(packet.payload))
            view = view[len(taken) :]

    @property
    def _complete(self) -> bool:
        """Return whether a packet without a payload is still to be handled."""
        return self._packet is not None and not self._packet.payload

    def _begin(self, header: bytes) -> _Packet:
        if header[:2] != b"\x01\x00":
            raise RecordingError(f"frames come in another protocol: {header[:8].hex(' ')}")
        # GDP 1.0: two bytes of version, flags, padding, then type and length of the payload, big-endian.
        kind, length = int.from_bytes(header[4:6]), int.from_bytes(header[6:10])
        if kind == _BUFFER:
            if self._size is None:
                raise RecordingError("a frame arrived before its caps")
            if length != _stride(self._size[0]) * self._size[1]:
                raise RecordingError(
                    f"a frame of {length} bytes is not {self._size[0]}x{self._size[1]} pixels"
                )
        elif length > _LARGEST_TEXT:
            raise RecordingError(f"caps of {length} bytes exceed the limit of {_LARGEST_TEXT}")
        return _Packet(kind, bytearray(length))

    def _frame(self, payload: bytearray) -> "Frame":
        import numpy

        assert self._size is not None
        width, height = self._size
        rows = numpy.frombuffer(payload, numpy.uint8).reshape(height, _stride(width))
        # Rows are padded to four bytes; without padding the payload is the array itself, not copied.
        return numpy.ascontiguousarray(rows[:, : width * 3]).reshape(height, width, 3)


def _stride(width: int) -> int:
    return -(-width * 3 // 4) * 4


def _read_caps(text: bytes) -> tuple[int, int]:
    sizes = {name: int(number) for name, number in _SIZE.findall(text)}
    width, height = sizes.get(b"width", 0), sizes.get(b"height", 0)
    if not _BLUE_FIRST.match(text) or not (1 <= width <= _LARGEST and 1 <= height <= _LARGEST):
        raise RecordingError(
            f"these caps are not of BGR frames: {clean_text(text[:200].decode(errors='replace'))}"
        )
    return width, height


class FramePipe(asyncio.Protocol):
    """Pipe that a recorder's process writes frames to.

    At most ``memory`` bytes of frames are kept; later frames are read and dropped. ``on_full`` is called
    once, when the first frame is dropped.
    """

    fd: int  # writing end, for the process

    def __init__(
        self, keep: Literal["all", "last"], memory: int, on_full: Callable[[], None] = lambda: None
    ) -> None:
        self.frames: list[Frame] = []  # kept frames, oldest first
        self.full = False  # whether a frame was dropped
        self._last_only = keep == "last"
        self._room = memory
        self._on_full = on_full
        self._reader = GdpFrameReader()
        self._writing = False
        self._error: RecordingError | None = None
        self._transport: asyncio.BaseTransport | None = None
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def open(self) -> None:
        """Open the pipe; `aclose` must follow."""
        await require_numpy()
        try:
            reading, self.fd = os.pipe()
        except OSError as error:
            raise RecordingError(f"no pipe for frames: {error}") from error
        self._writing = True
        file = os.fdopen(reading, "rb", buffering=0)
        try:
            if _F_SETPIPE_SZ is not None:
                fcntl.fcntl(reading, _F_SETPIPE_SZ, _PIPE_BYTES)
        except OSError:
            pass  # beyond this user's limit; a smaller pipe is only slower
        try:
            self._transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: self, file)
        except BaseException:
            file.close()
            self.close_writing_end()
            raise

    def close_writing_end(self) -> None:
        """Close the writing end here, once the process has it: the pipe then ends with the process."""
        if self._writing:
            self._writing = False
            os.close(self.fd)

    async def drained(self, timeout: float) -> None:
        """Wait until everything that was written is read.

        Raises:
            TimeoutError: A process still holds the writing end.
            RecordingError: The data were not frames.
        """
        async with deadline(timeout, "end of the frames"):
            await asyncio.shield(self._ended)
        if self._error is not None:
            raise self._error

    async def aclose(self) -> None:
        """Close both ends; harmless when called twice."""
        self.close_writing_end()
        if self._transport is not None:
            self._transport.close()
            await asyncio.wait({self._ended})

    # -- asyncio.Protocol -----------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Parse data that was read."""
        if self._error is not None or self.full:
            return
        try:
            for frame in self._reader.feed(data):
                self._keep(frame)
        except RecordingError as error:
            self._error = error

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that all data was read, or the pipe was closed."""
        if not self._ended.done():
            self._ended.set_result(None)

    def _keep(self, frame: "Frame") -> None:
        if frame.nbytes > self._room:
            if not self.full:
                self.full = True
                self._on_full()
        elif self._last_only:
            self.frames[:] = [frame]
        else:
            self._room -= frame.nbytes
            self.frames.append(frame)
