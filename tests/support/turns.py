"""Counting what happens in one turn of the event loop."""

import asyncio
from collections import Counter
from types import TracebackType


class Turns:
    """Counts marks by name and turn of the event loop, while its block runs."""

    def __init__(self) -> None:
        self.marks: dict[str, Counter[int]] = {}
        self._turn = 0
        self._tick: asyncio.Handle | None = None

    def mark(self, name: str) -> None:
        """Count one of this name in this turn."""
        self.marks.setdefault(name, Counter())[self._turn] += 1

    def most(self, name: str) -> int:
        """Return the largest number of marks of this name in one turn."""
        return max(self.marks[name].values())

    def total(self, name: str) -> int:
        """Return the number of marks of this name."""
        return self.marks[name].total()

    def __enter__(self) -> "Turns":
        self._next()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._tick is not None:
            self._tick.cancel()

    def _next(self) -> None:
        self._turn += 1
        self._tick = asyncio.get_running_loop().call_soon(self._next)
