"""How old pictures are, whatever the time of day is set to."""

import bisect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from asynccam.runtime.timing import Clock, slept
from asynccam.systems.snapshot.server.index import StoredSnapshot

_Key = tuple[float, int, str]
"""When it was made by elapsed time, its own time in nanoseconds, and its name; they sort by age."""
_NANOSECONDS: Final = 1e9


@dataclass(frozen=True, slots=True)
class _Age:
    """What is known of one picture.

    Attributes:
        key: Its place among the others.
        made_here: Whether this process made it.
    """

    key: _Key
    made_here: bool


class Ages:
    """Counts the ages of pictures by elapsed time, from when each was first seen.

    How old a picture was then follows from its own time, which is of the time of day when it was made. It is
    compared with the time of day, and with that at the beginning as counted on by elapsed time. The
    younger of the two counts, so that setting the clock makes no picture old. For a picture that was found,
    the time of day has to agree later too: it may have been wrong at the beginning and been put right since.

    Args:
        clock: Whose.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._wall = clock.time() - self._elapsed()
        self._known: dict[str, _Age] = {}
        self._order: list[_Key] = []

    def __len__(self) -> int:
        return len(self._known)

    def __iter__(self) -> Iterator[str]:
        """Names, oldest first."""
        return (key[2] for key in self._order)

    def names(self) -> tuple[str, ...]:
        """The names of all that are known, in any order."""
        return tuple(self._known)

    def add(self, picture: StoredSnapshot, *, made_here: bool) -> None:
        """Take in a picture; one that is known under its name and time keeps its age.

        Args:
            picture: The picture.
            made_here: Whether this process has just made it; else it was found.
        """
        known = self._known.get(picture.filename)
        if known is not None and known.key[1] == picture.taken_ns and not made_here:
            return
        self.forget(picture.filename)
        now = self._elapsed()
        taken = picture.taken_ns / _NANOSECONDS
        age = max(0.0, min(self._clock.time(), self._wall + now) - taken)
        key = now - age, picture.taken_ns, picture.filename
        self._known[picture.filename] = _Age(key, made_here)
        bisect.insort(self._order, key)

    def forget(self, name: str) -> None:
        """Leave a picture out; harmless if it is not known."""
        known = self._known.pop(name, None)
        if known is not None:
            del self._order[bisect.bisect_left(self._order, known.key)]

    def counted(self, name: str) -> float:
        """Seconds since a known picture was made, as counted; none that comes later in order has more."""
        return self._elapsed() - self._known[name].key[0]

    def certain(self, name: str) -> float:
        """Seconds for which a known picture has been there by everything that tells."""
        known = self._known[name]
        counted = self.counted(name)
        if known.made_here:
            return counted
        return min(counted, self._clock.time() - known.key[1] / _NANOSECONDS)

    def _elapsed(self) -> float:
        # A computer that sleeps at night does not keep pictures for twice as many days.
        return self._clock.monotonic() + slept()
