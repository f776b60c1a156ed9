"""Tables of samples, read in pieces, so that neither a long nor a lying one takes memory."""

import struct
from collections.abc import Iterator
from typing import Final

from asynccam.recording.containers.mp4.boxes import Box, Fields, Flaws
from asynccam.recording.containers.reader import CutShortError, FileView

_READ_SIZE: Final = 1 << 16  # bytes of a table that are held at once
_ENDLESS: Final = 1 << 62  # samples; more than any table has


class Table:
    """Rows of numbers inside a box, of which as many are read as are really there."""

    __slots__ = ("_row", "_start", "_view", "announced", "count")

    def __init__(
        self, view: FileView, box: Box, start: int, announced: int, row: str, trouble: Flaws
    ) -> None:
        self._view = view
        self._start = start
        self._row = struct.Struct(">" + row)
        self.announced = announced  # number of rows by the box
        room = max(min(box.end, view.size) - start, 0) // self._row.size
        self.count = min(announced, room)  # number of rows that are there
        if announced > room and box.end <= view.size:
            trouble.note_spoiled(box.begin)

    def __iter__(self) -> Iterator[tuple[int, ...]]:
        row = self._row
        rows = max(_READ_SIZE // row.size, 1)
        for first in range(0, self.count, rows):
            length = min(rows, self.count - first) * row.size
            piece = self._view.read_some(self._start + first * row.size, length)
            if len(piece) < length:
                raise CutShortError
            yield from row.iter_unpack(piece)

    def last(self) -> tuple[int, ...]:
        """Return the last row; raise CutShortError if there is none."""
        if not self.count:
            raise CutShortError
        return self._row.unpack(
            self._view.read(self._start + (self.count - 1) * self._row.size, self._row.size)
        )


class SampleSizes:
    """Sizes of a track's samples (ISO/IEC 14496-12, 8.7.3)."""

    __slots__ = ("_bits", "_table", "announced", "constant")

    def __init__(self, view: FileView, box: Box, trouble: Flaws) -> None:
        fields = Fields(view, box)
        self.constant: int | None = None  # size of every sample, or None where each has its own
        self._bits = 32
        self._table: Table | None = None
        if box.kind == b"stsz":
            self.constant = fields.read_int() or None
        else:
            # stz2: 24 bits reserved, then 4, 8 or 16 bits a sample; of two in a byte the upper comes first.
            self._bits = fields.read_int() & 0xFF
        self.announced = fields.read_int()  # number of samples by the box
        if self.constant is not None:
            return
        row = {4: "B", 8: "B", 16: "H", 32: "I"}.get(self._bits)
        if row is None:
            trouble.note_spoiled(box.begin)
            return
        rows = (self.announced + 1) // 2 if self._bits == 4 else self.announced
        self._table = Table(view, box, fields.at, rows, row, trouble)

    @property
    def count(self) -> int:
        """Number of samples whose size can be read."""
        if self.constant is not None or self._table is None:
            return self.announced if self.constant is not None else 0
        return min(self.announced, self._table.count * (2 if self._bits == 4 else 1))

    def __iter__(self) -> Iterator[int]:
        """Yield the sizes where each sample has its own."""
        if self._table is None:
            return
        if self._bits != 4:
            for (size,) in self._table:
                yield size
            return
        left = self.announced
        for (pair,) in self._table:
            yield pair >> 4
            if left > 1:
                yield pair & 0xF
            left -= 2


class RunValues:
    """A value for each sample from a table of runs of samples: ``stts`` and ``ctts``."""

    __slots__ = ("_goes_on", "_rows", "left", "value")

    def __init__(self, table: Table | None, *, goes_on: bool) -> None:
        """Begin at the first sample; samples beyond the table have the last value if ``goes_on``, else 0."""
        self._rows = iter(table) if table is not None else iter(())
        self._goes_on = goes_on
        self.value = 0  # value of the next sample, valid while ``left`` is not 0
        self.left = 0  # number of samples in a row that have it

    def advance(self) -> None:
        """Go to the next run."""
        for count, value in self._rows:
            if count:
                self.left, self.value = count, value
                return
        self.left = _ENDLESS
        if not self._goes_on:
            self.value = 0

    def skip(self, count: int) -> int:
        """Skip samples and return the sum of their values."""
        total = 0
        while count > 0:
            if not self.left:
                self.advance()
            some = min(self.left, count)
            total += some * self.value
            self.left -= some
            count -= some
        return total


class SampleDurations(RunValues):
    """Durations of samples (``stts``), where a negative one steps back and no two samples have one time.

    As ffmpeg does, a sample with a negative duration lasts one tick, and the samples behind it one tick each
    until the time that they have by the table is reached.
    """

    def __init__(self, table: Table | None) -> None:
        """Begin at the first sample."""
        super().__init__(table, goes_on=True)
        self._ahead = 0

    def advance(self) -> None:
        """Go to the next run."""
        super().advance()
        value, self.value = self.value, max(self.value, 1 if self.value < 0 else 0)
        count = self.left
        self._ahead += (self.value - value) * (count if value < 0 else 0)
        if value <= 1 or not self._ahead:
            return
        # What can be taken back in this run, evenly.
        share = min(self._ahead // count, value - 1)
        self.value -= share
        self._ahead -= share * count
