"""Whether the time of day can be believed."""

from typing import Final

from asynccam.runtime.timing import Clock

_LEAP: Final = 3600.0
"""Seconds by which no clock is corrected while it goes."""
_REST: Final = 3600.0
"""Seconds after a leap for which nothing is done that cannot be undone."""


class Steadiness:
    """Watches the time of day for leaps.

    Args:
        clock: Whose.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._offset = clock.time() - clock.monotonic()
        self._until = clock.monotonic()

    def holds(self) -> bool:
        """Whether an hour has gone by since the time of day last leapt by more than one."""
        # Pictures' ages are by the files' own times, which outlive this process; those are of wall time.
        now = self._clock.monotonic()
        offset = self._clock.time() - now
        if abs(offset - self._offset) > _LEAP:
            self._until = now + _REST
        self._offset = offset
        return now >= self._until
