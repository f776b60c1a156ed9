"""What a recorder tells while it runs: how far it is, that frames stay away, that the disk fills up."""

from collections.abc import Iterable, Sequence

from asynccam.recording.events import (
    Gap,
    RecorderDiskLow,
    RecorderProgress,
    RecorderResumed,
    RecorderStalled,
)
from asynccam.recording.process_run import DiskUsage, Run
from asynccam.runtime.event_hub import EventHub


class ProgressReporter:
    """Turns what a recorder sees into events, and keeps its gaps.

    Args:
        recorder: Its name.
        events: Where to tell.
        low_space: Bytes free below which `RecorderDiskLow` is told, once.

    Attributes:
        gaps: Times without frames so far.
    """

    def __init__(self, recorder: str, events: EventHub, low_space: int) -> None:
        self._recorder = recorder
        self._events = events
        self._low_space = low_space
        self._told_low = False
        self._gap_began: float | None = None
        self.gaps: tuple[Gap, ...] = ()

    def look(self, runs: Sequence[Run], seen: DiskUsage) -> int:
        """Take a survey: growth, progress, room on the disk. Returns bytes of all files.

        Args:
            runs: All of them, the present one last.
            seen: What is on the disk.
        """
        run = runs[-1]
        total = sum(seen.sizes.values())
        run.grew_to(total)
        self._events.emit(
            RecorderProgress(
                recorder=self._recorder,
                bytes=total,
                frames=sum(one.frames for one in runs),
                fps=run.fps,
                dropped=sum(one.dropped for one in runs),
                spoiled=sum(one.spoiled for one in runs),
            )
        )
        if seen.free is None or seen.free >= self._low_space:
            self._told_low = False
        elif not self._told_low:
            self._told_low = True
            seconds = seen.free / run.rate if run.rate else None
            self._events.emit(RecorderDiskLow(recorder=self._recorder, free=seen.free, seconds=seconds))
        return total

    def open_gap(self, run: Run, reason: str) -> None:
        """Frames stay away, since the run was last seen to grow."""
        self._gap_began = run.grown_wall
        self._events.emit(RecorderStalled(recorder=self._recorder, since=run.grown_wall, reason=reason))

    def found_gaps(self, found: Iterable[Gap]) -> None:
        """Add gaps that only the files tell of, but for those that were noticed already."""
        new = [gap for gap in found if not any(_overlap(gap, one) for one in self.gaps)]
        self.gaps = tuple(sorted((*self.gaps, *new), key=lambda gap: gap.began))

    def close_gap(self, ended: float, *, restarted: bool = False, resumed: bool = True) -> None:
        """Frames come again, or the recording is over without; harmless where no gap is open."""
        if self._gap_began is None:
            return
        gap, self._gap_began = Gap(self._gap_began, ended, restarted, resumed), None
        self.gaps = (*self.gaps, gap)
        if resumed:
            self._events.emit(RecorderResumed(recorder=self._recorder, gap=gap))


def _overlap(one: Gap, other: Gap) -> bool:
    return one.began <= other.ended and other.began <= one.ended
