"""Frames in memory as NumPy arrays, through a pipe from a recorder's process.

What comes through the pipe is GStreamer's data protocol 1.0: packets of a 62-byte header and a payload, which
is a frame, the form of the frames that follow, or an event. So each frame says how large it is.
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
    """Height x width x 3 bytes, blue first, as OpenCV has them."""

_HEADER: Final = 62
_BUFFER: Final = 1
_CAPS: Final = 2
_LARGEST: Final = 16384
_LARGEST_TEXT: Final = 1 << 16
_PIPE_BYTES: Final = 1 << 20
_F_SETPIPE_SZ: Final = getattr(fcntl, "F_SETPIPE_SZ", None)
_SIZE: Final = re.compile(rb"\b(width|height)=\(int\)(\d{1,5})\b")
_BLUE_FIRST: Final = re.compile(rb"^video/x-raw\b.*\bformat=\(string\)BGR\b", re.DOTALL)


async def need_numpy() -> None:
    """See that there is NumPy; importing it reads many files, so that is done off the loop.

    Raises:
        RecordingError: There is none.
    """
    try:
        await asyncio.to_thread(import_module, "numpy")
    except ImportError:
        raise RecordingError('frames in memory need NumPy: pip install "asynccam[video]"') from None


@dataclass(slots=True)
class _Packet:
    """One that is arriving."""

    kind: int
    payload: bytearray
    filled: int = 0


class FrameReader:
    """From bytes, however cut, to frames."""

    def __init__(self) -> None:
        self._header = bytearray()
        self._packet: _Packet | None = None
        self._size: tuple[int, int] | None = None

    def feed(self, data: bytes) -> "Iterator[Frame]":
        """Take bytes; gives each frame that they complete.

        Raises:
            RecordingError: They are not what was agreed on.
        """
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
        """Whether a packet without a payload waits to be dealt with."""
        return self._packet is not None and not self._packet.payload

    def _begin(self, header: bytes) -> _Packet:
        if header[:2] != b"\x01\x00":
            raise RecordingError(f"frames come in another protocol: {header[:8].hex(' ')}")
        kind, length = int.from_bytes(header[4:6]), int.from_bytes(header[6:10])
        if kind == _BUFFER:
            if self._size is None:
                raise RecordingError("a frame came before its size")
            if length != _stride(self._size[0]) * self._size[1]:
                raise RecordingError(
                    f"a frame of {length} bytes is not {self._size[0]}x{self._size[1]} pixels"
                )
        elif length > _LARGEST_TEXT:
            raise RecordingError(f"{length} bytes are no description of frames")
        return _Packet(kind, bytearray(length))

    def _frame(self, payload: bytearray) -> "Frame":
        import numpy

        assert self._size is not None
        width, height = self._size
        rows = numpy.frombuffer(payload, numpy.uint8).reshape(height, _stride(width))
        # Rows are filled up to four bytes; without that, what came is the array itself, never copied.
        return numpy.ascontiguousarray(rows[:, : width * 3]).reshape(height, width, 3)


def _stride(width: int) -> int:
    return -(-width * 3 // 4) * 4


def _read_caps(text: bytes) -> tuple[int, int]:
    sizes = {name: int(number) for name, number in _SIZE.findall(text)}
    width, height = sizes.get(b"width", 0), sizes.get(b"height", 0)
    if not _BLUE_FIRST.match(text) or not (1 <= width <= _LARGEST and 1 <= height <= _LARGEST):
        raise RecordingError(f"these are no frames: {clean_text(text[:200].decode(errors='replace'))}")
    return width, height


class FramePipe(asyncio.Protocol):
    """A pipe that a recorder's process writes frames to, and this one reads without blocking.

    Args:
        keep: ``all`` frames, or only the ``last``.
        memory: Bytes of frames to keep at most; what comes after is read and dropped.
        on_full: Called once, when there is a frame for which there is no room.

    Attributes:
        fd: The writing end, for the process.
        frames: What is kept, oldest first.
        full: Whether a frame was dropped for want of room.
    """

    fd: int

    def __init__(
        self, keep: Literal["all", "last"], memory: int, on_full: Callable[[], None] = lambda: None
    ) -> None:
        self.frames: list[Frame] = []
        self.full = False
        self._last_only = keep == "last"
        self._room = memory
        self._on_full = on_full
        self._reader = FrameReader()
        self._writing = False
        self._trouble: RecordingError | None = None
        self._transport: asyncio.BaseTransport | None = None
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def open(self) -> None:
        """Make the pipe; what was opened must be closed.

        Raises:
            RecordingError: There is no NumPy, or no pipe to be had.
        """
        await need_numpy()
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
            pass  # beyond what this user may have; it is only slower
        try:
            self._transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: self, file)
        except BaseException:
            file.close()
            self.handed_over()
            raise

    def handed_over(self) -> None:
        """The process has the writing end now: closed here, the pipe ends when the process does."""
        if self._writing:
            self._writing = False
            os.close(self.fd)

    async def drained(self, timeout: float) -> None:
        """Wait until everything that was written is read.

        Raises:
            TimeoutError: Somebody still holds the writing end.
            RecordingError: What came were no frames.
        """
        async with deadline(timeout, "end of the frames"):
            await asyncio.shield(self._ended)
        if self._trouble is not None:
            raise self._trouble

    async def aclose(self) -> None:
        """Let go of both ends; harmless when called twice."""
        self.handed_over()
        if self._transport is not None:
            self._transport.close()
            await asyncio.wait({self._ended})

    # -- asyncio.Protocol -----------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Take what was read."""
        if self._trouble is not None or self.full:
            return
        try:
            for frame in self._reader.feed(data):
                self._take(frame)
        except RecordingError as error:
            self._trouble = error

    def connection_lost(self, exc: Exception | None) -> None:
        """Every byte was read, or the pipe was closed."""
        if not self._ended.done():
            self._ended.set_result(None)

    def _take(self, frame: "Frame") -> None:
        if frame.nbytes > self._room:
            if not self.full:
                self.full = True
                self._on_full()
        elif self._last_only:
            self.frames[:] = [frame]
        else:
            self._room -= frame.nbytes
            self.frames.append(frame)
