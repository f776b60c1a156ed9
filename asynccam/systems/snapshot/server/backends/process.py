"""Processes that take pictures: started, held back until the moment, and never left behind."""

import asyncio
import functools
import os
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final

from asynccam.errors import RecordingError
from asynccam.recording.process import NOTHING_TO_FINISH, LaunchProcess
from asynccam.runtime.timing import deadline

_READY_SECONDS: Final = 10.0
_MAX_WORDS: Final = 300
_GATE: Final = """
import os, sys
os.write(1, b"ready\\n")
if os.read(int(sys.argv[1]), 1):
    try:
        os.execvp(sys.argv[2], sys.argv[2:])
    except OSError as error:
        sys.exit(f"cannot start {sys.argv[2]}: {error.strerror}")
"""
"""Waits for a byte and becomes the command; ends when whoever should send it has died."""

ArgumentsFor = Callable[[int], Sequence[str]]
"""Program and arguments, given the descriptor that the word to go on comes from."""


def gated(argv: Sequence[str]) -> ArgumentsFor:
    """A command that is held back by an interpreter which is up already when the moment comes."""
    return lambda fd: [sys.executable, "-I", "-S", "-c", _GATE, str(fd), *argv]


@functools.cache
def _guard() -> tuple[str, ...]:
    """What has the kernel kill a capture when the server is killed, so that it frees the device."""
    setpriv = shutil.which("setpriv")
    return () if setpriv is None else (setpriv, "--pdeathsig", "KILL", "--")


class CaptureProcess:
    """A running capture; see `capturing`."""

    def __init__(self, process: LaunchProcess, writer: int, up: asyncio.Event) -> None:
        self._process = process
        self._writer = writer
        self._up = up

    async def ready(self, sign: str = "") -> None:
        """Wait until it has said ``sign``, or anything at all, or has ended.

        Raises:
            TimeoutError: It said nothing.
        """
        async with deadline(_READY_SECONDS, "sign of readiness from a capture"):
            while sign not in self._process.output and not self._process.exited.done():
                self._up.clear()
                await self._up.wait()

    def fire(self, word: bytes = b"\n") -> None:
        """Let it go on; ``word`` has to fit into an empty pipe."""
        if self._writer >= 0:
            writer, self._writer = self._writer, -1
            # One that has ended already tells so when its end is waited for.
            with suppress(BrokenPipeError):
                os.write(writer, word)
            os.close(writer)

    async def ended(self, seconds: float, what: str) -> None:
        """Wait for its end.

        Raises:
            RecordingError: It failed, with the last of what it said.
            TimeoutError: It did not end within ``seconds``.
        """
        async with deadline(seconds, f"end of {what}"):
            code = await self._process.wait()
        if code:
            how = f"status {code}" if code > 0 else f"signal {-code}"
            raise RecordingError(f"{what} failed with {how}{words(self.output)}", output=self._process.output)

    @property
    def output(self) -> str:
        """The last of what it said."""
        return self._process.output

    async def _close(self) -> None:
        if self._writer >= 0:
            os.close(self._writer)
            self._writer = -1
        await self._process.stop(NOTHING_TO_FINISH)


@asynccontextmanager
async def capturing(arguments: ArgumentsFor) -> AsyncIterator[CaptureProcess]:
    """Start a capture in a process group of its own; killed and reaped at the end of the block.

    Raises:
        RecordingError: It cannot be started.
    """
    guard = await asyncio.to_thread(_guard)
    up = asyncio.Event()
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        process = await LaunchProcess.start(
            [*guard, *arguments(reader)], lambda _: up.set(), pass_fds=(reader,)
        )
    except BaseException:
        os.close(writer)
        raise
    finally:
        os.close(reader)
    process.exited.add_done_callback(lambda _: up.set())
    running = CaptureProcess(process, writer, up)
    try:
        yield running
    finally:
        await running._close()


def words(output: str) -> str:
    """The end of what a process said, to put behind a sentence."""
    said = " ".join(output.removeprefix("ready\n").split())
    return f": {said[-_MAX_WORDS:]}" if said else ""
