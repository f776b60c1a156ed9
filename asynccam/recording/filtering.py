"""The process that leaves spoiled pictures out of a Motion JPEG stream, and the pipes to and from it."""

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final

from asynccam.errors import RecordingError
from asynccam.recording import jpeg_filter
from asynccam.recording.process import NOTHING_TO_FINISH, LaunchProcess
from asynccam.recording.sources import FROM_FILTER, TO_FILTER

_END_SECONDS: Final = 1.0
"""For the filter to end once nothing writes to it any more."""
_TOLD: Final = b"spoiled "


class FilterProcess:
    """A running `asynccam.recording.jpeg_filter`.

    It belongs to the process that holds the other ends of its pipes: it ends when that has ended. So it needs
    no guard, and outlives Python as long as a recording does.

    Attributes:
        spoiled: Pictures it has left out so far.
    """

    def __init__(self) -> None:
        self.spoiled = 0
        self._line = b""
        self._process: LaunchProcess | None = None

    async def start(self, source: int, target: int) -> None:
        """Start it between two descriptors, which the caller closes.

        Raises:
            RecordingError: Python cannot be started.
        """
        # -I and -S: it needs no package, and starts in a fraction of the time.
        program = [sys.executable, "-I", "-S", str(Path(jpeg_filter.__file__)), str(source), str(target)]
        self._process = await LaunchProcess.start(
            program, self._take, pass_fds=(source, target), outlives=False
        )

    async def stop(self) -> None:
        """See it end; to be called when whoever holds its pipes has ended. Harmless when called twice."""
        if self._process is not None:
            await asyncio.wait({self._process.exited}, timeout=_END_SECONDS)
            await self._process.stop(NOTHING_TO_FINISH)

    def _take(self, data: bytes) -> None:
        *lines, self._line = (self._line + data).split(b"\n")
        for line in lines:
            if line.startswith(_TOLD):
                self.spoiled = int(line.removeprefix(_TOLD))


class FilterPipes:
    """The pipes to and from a filter: a context manager that closes this process's ends.

    Attributes:
        theirs: The ends for the process that records, inherited under their numbers.
        filter_source: The end that the filter reads.
        filter_target: The end that it writes.
    """

    def __init__(self) -> None:
        try:
            self.filter_source, into = os.pipe()
        except OSError as error:
            raise RecordingError(f"no pipe for pictures: {error}") from error
        try:
            outof, self.filter_target = os.pipe()
        except OSError as error:
            os.close(self.filter_source)
            os.close(into)
            raise RecordingError(f"no pipe for pictures: {error}") from error
        self.theirs = (into, outof)

    def arguments(self, arguments: Sequence[str]) -> list[str]:
        """Arguments of ``gst-launch-1.0`` with the descriptors in their places."""
        into, outof = self.theirs
        places = {f"fd={TO_FILTER}": f"fd={into}", f"fd={FROM_FILTER}": f"fd={outof}"}
        return [places.get(word, word) for word in arguments]

    def __enter__(self) -> "FilterPipes":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for descriptor in (*self.theirs, self.filter_source, self.filter_target):
            os.close(descriptor)
