"""Trouble on purpose: what real MultiCam devices do wrong, as switches for tests and demonstrations."""

from dataclasses import dataclass

from asynccam.runtime.timing import Clock


@dataclass(slots=True)
class DeviceFaults:
    """How a `MultiCamDevice` misbehaves; may be changed while it runs. The default does nothing.

    Attributes:
        refuse_start: START_RECORDING is answered ``error`` with these words.
        die_after: GET_VIDEO is broken off after this many bytes of the file.
        silent: Commands that are read and then neither carried out nor answered.
        cut_answers: Answers leave in pieces of this many bytes, each on a later turn of the loop.
        sentence_statuses: Statuses are sentences (``Command received``), as early iOS builds wrote them.
        unasked_heartbeat: A HEARTBEAT command goes ahead of every answer, as iOS may send one.
        delete_on_write: A file is deleted once it was written to the socket, as OAK does, whether or not
            anybody read it.
        clock_skew: Seconds the device's system clock is ahead of this computer's.
        first_frame_error: Seconds by which the first frame is told later than it was.
    """

    refuse_start: str | None = None
    die_after: int | None = None
    silent: frozenset[str] = frozenset()
    cut_answers: int | None = None
    sentence_statuses: bool = False
    unasked_heartbeat: bool = False
    delete_on_write: bool = False
    clock_skew: float = 0.0
    first_frame_error: float = 0.0

    def word(self, status: str) -> str:
        """A status as this device writes it."""
        return status.replace("_", " ").capitalize() if self.sentence_statuses else status


class SkewedClock:
    """A clock that is wrong by `DeviceFaults.clock_skew`.

    Args:
        clock: The right one.
        faults: Says how wrong.
    """

    def __init__(self, clock: Clock, faults: DeviceFaults) -> None:
        self._clock = clock
        self._faults = faults

    def time(self) -> float:
        """Unix seconds, wrong."""
        return self._clock.time() + self._faults.clock_skew

    def shows(self, moment: float) -> float:
        """What this clock shows at a moment of the right one."""
        return moment + self._faults.clock_skew

    def monotonic(self) -> float:
        """Seconds that never go back; these are right."""
        return self._clock.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait; this is right."""
        await self._clock.sleep(seconds)
