"""Access to a media file's structure without its pictures: small reads anywhere, in constant memory."""

import os
import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final, Generic, TypeVar

from asynccam.model.safe_files import open_file

_WINDOW: Final = 16 * 1024  # bytes that a small read brings along: headers follow each other closely
_BLOCK: Final = 1 << 20  # bytes read at once where a stretch is searched
_OVERLAP: Final = 16  # bytes of a block that are searched again, as a unit's head may lie across its end
_CLOSE_TIMEOUT: Final = 5.0
"""Seconds to wait for a thread whose disk does not answer; the thread closes the file itself later."""

T = TypeVar("T")


class CutShortError(Exception):
    """End of the file before the bytes that it announces; never leaves a public call."""


class AbortedError(Exception):
    """Abort of reading, as the caller has given up; never leaves a public call."""


class NoTimesError(Exception):
    """Lack of frame times, as a sentence that follows the file's name; never leaves a public call."""


@dataclass(frozen=True, slots=True)
class Scan:
    """Result of reading a file's structure.

    The sentences follow the file's name in a detail: "is cut off inside its last box".

    Attributes:
        frames: Video frames whose media is in the file and that a player shows, or None if that is unknown.
        duration: Presentation time of these frames in seconds, the last one's length included, or None.
        truncated: Why the end of the file is missing, or ``""``. A reader leaves it empty where no frame is
            announced and none is there: such a file is empty.
    """

    frames: int | None
    duration: float | None
    truncated: str = ""
    damaged: str = ""  # missing or spoiled content inside the file, or ``""``
    note: str = ""  # remarks that are not failures, bytes behind the end for example, or ``""``
    interval: float | None = None  # as of `Intervals.usual`, in seconds
    longest: float | None = None  # as of `Intervals.longest`, in seconds
    understood: bool = True  # false for a format that is not read here; nothing else is known then


class Intervals:
    """Times between frames: how long a stream may be silent before that is its end."""

    __slots__ = ("_longest", "_second")

    def __init__(self) -> None:
        self._longest = 0.0
        self._second = 0.0

    def add(self, interval: float, times: int = 1) -> None:
        """Add the time from one frame to the next, as often as it occurred."""
        if interval > self._second and times > 0:
            longest = max(interval, self._longest)
            self._second = interval if times > 1 else min(interval, self._longest)
            self._longest = longest

    @property
    def usual(self) -> float | None:
        """The second longest interval, as the longest may be an outage; the only one; or None.

        An interval that occurred twice counts as two.
        """
        return self._second or self._longest or None

    @property
    def longest(self) -> float | None:
        """The longest interval, which may be an outage; None before two frames."""
        return self._longest or None


class FileView:
    """A file open for reading at any offset, of the size when it was opened; for use in a thread."""

    def __init__(self, path: Path, abort: threading.Event) -> None:
        """Open it; raise OSError if it is not a regular file."""
        self._abort = abort
        self._fd = open_file(path)
        status = os.fstat(self._fd)
        self.size = status.st_size
        self._window = b""
        self._window_at = 0

    def __enter__(self) -> "FileView":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def check_abort(self) -> None:
        """Raise AbortedError if the caller has given up; for loops that go on for long without reading."""
        if self._abort.is_set():
            raise AbortedError

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly ``length`` bytes; raise CutShortError if the file ends before them."""
        begin = offset - self._window_at
        if begin < 0 or begin + length > len(self._window):
            self.check_abort()
            self._window = os.pread(self._fd, max(length, _WINDOW), offset)
            self._window_at, begin = offset, 0
            if length > len(self._window):
                raise CutShortError
        return self._window[begin : begin + length]

    def read_some(self, offset: int, length: int) -> bytes:
        """Return at most ``length`` bytes, fewer at the end of the file, without the buffer of `read`."""
        self.check_abort()
        return os.pread(self._fd, length, offset)

    def is_zeros(self, begin: int, end: int | None = None) -> bool:
        """Return whether bytes are all zeros, to the end of the file by default; True for none."""
        while end is None or begin < end:
            block = self.read_some(begin, _BLOCK if end is None else min(_BLOCK, end - begin))
            if not block:
                return end is None
            if block.count(0) != len(block):
                return False
            begin += len(block)
        return True


class UnitWalk(ABC):
    """Walk through the units of a file, past bytes that are not a unit."""

    unit_head: re.Pattern[bytes]
    """Head of a unit at which the walk may go on, if `is_unit` confirms it."""

    def __init__(self, view: FileView, position: int = 0) -> None:
        self.view = view
        self.position = position  # offset of the present unit
        self.cut: int | None = None  # offset of the unit within which the file ends, or None
        self.zeros: int | None = None  # offset from which only zeros follow to the end of the file, or None
        self.trailing: int | None = None  # offset of the bytes behind the end, or None
        self.lost = 0  # number of bytes that were skipped because they are not units
        self.first_lost = 0  # offset of the first of them

    @abstractmethod
    def is_unit(self, position: int) -> bool:
        """Return whether the bytes that look like a unit's head are one."""

    def resume(self, begin: int) -> bool:
        """Go to the next unit from here on; return whether there is one."""
        while begin < self.view.size:
            block = self.view.read_some(begin, _BLOCK)
            for match in self.unit_head.finditer(block):
                found = begin + match.start()
                if self.is_unit(found):
                    self.note_lost(self.position, found)
                    self.position = found
                    return True
            if len(block) < _BLOCK:
                return False
            begin += len(block) - _OVERLAP
        return False

    def recover(self, end: int) -> bool:
        """Resume behind bytes that are not a unit; if no unit follows, note what is there up to the end."""
        if self.resume(self.position + 1):
            return True
        if self.view.is_zeros(self.position, end):
            self.zeros = self.position
        else:
            self.note_lost(self.position, end)
        return False

    def note_lost(self, begin: int, end: int) -> None:
        """Count the bytes from one offset to another as lost."""
        if not self.lost:
            self.first_lost = begin
        self.lost += max(0, end - begin)

    @property
    def loss(self) -> list[str]:
        """The lost bytes in words, if there are any."""
        if not self.lost:
            return []
        return [f"has {self.lost} bytes that cannot be read, the first at byte {self.first_lost}"]

    @property
    def missing_end(self) -> str:
        """Return the place at which the file is cut off or zeroed, in words, or ``""``."""
        if self.cut is not None:
            return f"is cut off at byte {self.cut} of {self.view.size}"
        if self.zeros is not None:
            return f"holds nothing but zeros from byte {self.zeros} on"
        return ""


class SteppedReader(Generic[T]):
    """Runs a generator that reads a file, so many items at a step, each step in some thread."""

    def __init__(self, read: Callable[[threading.Event], Generator[T, None, None]], batch: int) -> None:
        self.abort = threading.Event()  # set to end a step; the generator's `FileView` has it
        self._items = read(self.abort)
        self._batch = batch
        self._lock = threading.Lock()

    def step(self) -> list[T]:
        """Return the next items; an empty list at the end."""
        try:
            with self._lock:
                return list(islice(self._items, self._batch))
        finally:
            if self.abort.is_set():  # the caller has given up, and so may `close`
                self.close()

    def close(self) -> None:
        """Close the file once no step is reading it."""
        if self._lock.acquire(timeout=_CLOSE_TIMEOUT):
            try:
                self._items.close()
            finally:
                self._lock.release()
