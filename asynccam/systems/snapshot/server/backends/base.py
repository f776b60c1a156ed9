"""Interface of a backend, and what backends share: the capture process and the check of a picture."""

import asyncio
import functools
import os
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Final, Protocol

from asynccam.errors import RecordingError
from asynccam.recording.pictures import is_jpeg_picture, read_picture, remove_head
from asynccam.recording.process import NOTHING_TO_FINISH, LaunchProcess
from asynccam.runtime.timing import deadline
from asynccam.systems.snapshot.server.settings import CameraConfig

JPEG_FORMATS: Final = frozenset({"MJPG", "JPEG"})
"""Pixel formats that need no conversion."""
CAPTURE_TIMEOUT: Final = 30.0
_READY_TIMEOUT: Final = 10.0
_MAX_OUTPUT: Final = 300
_GATE: Final = """
import os, sys
os.write(1, b"ready\\n")
if os.read(int(sys.argv[1]), 1):
    try:
        os.execvp(sys.argv[2], sys.argv[2:])
    except OSError as error:
        sys.exit(f"cannot start {sys.argv[2]}: {error.strerror}")
"""
"""Waits for a byte and becomes the command; exits at end of file, when the server has died."""

ArgumentsFor = Callable[[int], Sequence[str]]
"""Returns program and arguments, given the descriptor from which the process reads its start signal."""


class Exposure(Protocol):
    """A capture that is prepared and waits for its moment."""

    def fire(self) -> None:
        """Take the picture now; returns at once, so that several can be fired together."""
        ...

    async def taken(self) -> float:
        """Wait until the device is no longer needed; return when the picture was taken, Unix seconds.

        Raises:
            RecordingError: There is no picture.
            TimeoutError: It took too long.
        """
        ...

    async def develop(self) -> None:
        """Convert the frame to a JPEG, which does not need the device.

        Raises:
            RecordingError: The frame cannot be converted.
        """
        ...


class Backend(Protocol):
    """A way to take pictures."""

    def prepare(
        self, camera: CameraConfig, target: Path, *, hold: bool = False
    ) -> AbstractAsyncContextManager[Exposure]:
        """Prepare a capture; leaving the block ends it, whatever its state.

        Args:
            camera: What to capture from, and how.
            target: Path of the JPEG; its directory belongs to this capture.
            hold: Do as much as possible before `Exposure.fire`, for several cameras at one moment; otherwise
                take the shortest time in all.

        Raises:
            RecordingError: The capture cannot be prepared.
        """
        ...


class BrokenPictureError(RecordingError):
    """A camera returned a broken picture; the next one may be whole."""


def check_picture(path: Path, device: str) -> None:
    """Check that a file is a complete JPEG, and remove bytes before its beginning; blocking.

    Other programs do not find a picture behind other bytes. Bytes after its end are kept: they harm nothing,
    and may belong to the picture, as the second one of a stereo pair does. ``device`` is named in errors.

    Raises:
        BrokenPictureError: The file is not a complete JPEG.
        StorageError: The file cannot be read or written.
    """
    found, size = read_picture(path)
    if found.flaw and not is_jpeg_picture(found):
        why = "it does not support this pixel format, or not this size"
        raise BrokenPictureError(f"{device} returned {size} bytes that are not a JPEG: {why}")
    if found.flaw:
        raise BrokenPictureError(f"{device} returned a broken picture: it {found.flaw}")
    if found.begin:
        remove_head(path, found.begin)


def gated(argv: Sequence[str]) -> ArgumentsFor:
    """Hold a command back in a Python process that is already running when the moment comes."""
    return lambda fd: [sys.executable, "-I", "-S", "-c", _GATE, str(fd), *argv]


@functools.cache
def _kill_with_server() -> tuple[str, ...]:
    """Return a prefix that has the kernel kill a capture with the server, so that the device becomes free."""
    setpriv = shutil.which("setpriv")
    return () if setpriv is None else (setpriv, "--pdeathsig", "KILL", "--")


class CaptureProcess:
    """A running capture, see `capturing`."""

    def __init__(self, process: LaunchProcess, writer: int, news: asyncio.Event) -> None:
        self._process = process
        self._writer = writer
        self._news = news

    async def ready(self, sign: str = "") -> None:
        """Wait until the output contains ``sign``, or until the process has exited.

        Raises:
            TimeoutError: Neither happened in time.
        """
        async with deadline(_READY_TIMEOUT, "sign of readiness from a capture"):
            while sign not in self._process.output and not self._process.exited.done():
                self._news.clear()
                await self._news.wait()

    def fire(self, data: bytes = b"\n") -> None:
        """Send the start signal; ``data`` must fit into an empty pipe."""
        if self._writer >= 0:
            writer, self._writer = self._writer, -1
            # A process that has exited already is reported by `ended`.
            with suppress(BrokenPipeError):
                os.write(writer, data)
            os.close(writer)

    async def ended(self, seconds: float, name: str) -> None:
        """Wait for the process to exit; ``name`` is used in errors.

        Raises:
            RecordingError: It failed; the message has the end of its output.
            TimeoutError: It did not exit within ``seconds``.
        """
        async with deadline(seconds, f"end of {name}"):
            code = await self._process.wait()
        if code:
            how = f"status {code}" if code > 0 else f"signal {-code}"
            raise RecordingError(
                f"{name} failed with {how}{output_tail(self.output)}", output=self._process.output
            )

    @property
    def output(self) -> str:
        """The end of its output."""
        return self._process.output

    async def aclose(self) -> None:
        """Kill and reap the process."""
        if self._writer >= 0:
            os.close(self._writer)
            self._writer = -1
        await self._process.stop(NOTHING_TO_FINISH)


@asynccontextmanager
async def capturing(arguments: ArgumentsFor) -> AsyncIterator[CaptureProcess]:
    """Start a capture in its own process group; it is killed and reaped at the end of the block.

    Raises:
        RecordingError: The process cannot be started.
    """
    prefix = await asyncio.to_thread(_kill_with_server)
    news = asyncio.Event()
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        process = await LaunchProcess.start(
            [*prefix, *arguments(reader)], lambda _: news.set(), pass_fds=(reader,)
        )
    except BaseException:
        os.close(writer)
        raise
    finally:
        os.close(reader)
    process.exited.add_done_callback(lambda _: news.set())
    running = CaptureProcess(process, writer, news)
    try:
        yield running
    finally:
        await running.aclose()


def output_tail(output: str) -> str:
    """Return the end of a process's output, to append to a message."""
    said = " ".join(output.removeprefix("ready\n").split())
    return f": {said[-_MAX_OUTPUT:]}" if said else ""
