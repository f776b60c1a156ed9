"""The scale of wall time that a take's manifest is on, and what happens to the clocks meanwhile."""

from collections.abc import Callable, Sequence
from typing import Final

from asynccam.model.events import ClockStepped, ProgramPaused
from asynccam.model.manifest import (
    CameraRecord,
    ClockStepRecord,
    GapRecord,
    Manifest,
    Moment,
    PauseRecord,
)
from asynccam.runtime.clock_watch import ClockStep, ClockWatch, Pause
from asynccam.take.participant import Emit
from asynccam.wall_clock import WALL_CLOCK, ClockPin

_MOST: Final = 1000
"""Steps and pauses that a manifest takes: a clock that is set all the time must not fill it."""


class TakeClock:
    """Keeps one scale of wall time for a take, and puts steps of the clock and pauses on record.

    Args:
        manifest: Where they are put.
        emit: Where events go.
        on_change: Called after each of them.
    """

    def __init__(self, manifest: Manifest, emit: Emit, on_change: Callable[[], None] = lambda: None) -> None:
        self._manifest = manifest
        self._emit = emit
        self._on_change = on_change
        self._pin: ClockPin | None = None
        self._watch: ClockWatch | None = None

    def pin(self, scale: tuple[float, float] | None = None) -> None:
        """Begin, and compare the clocks from now on.

        Args:
            scale: The one that the manifest is on already, see `WallClock.pin`.
        """
        self._pin = WALL_CLOCK.pin(scale)
        if scale is not None:
            self._continue(scale)
        self._watch = ClockWatch(self._stepped, self._paused)
        self._watch.start()

    def check(self) -> None:
        """Compare the clocks now; harmless before `pin`."""
        if self._watch is not None:
            self._watch.check()

    def release(self) -> None:
        """End, and let the clock follow the system again; harmless when called twice."""
        if self._watch is not None:
            self._watch.stop()
        pin, self._pin = self._pin, None
        if pin is not None:
            pin.release()

    def pause_at(self, moment: float) -> str:
        """Say what kept the program from running at a Unix time, in words; ``""`` for nothing known."""
        for pause in self._manifest.pauses:
            if pause.at.unix <= moment <= pause.at.unix + pause.seconds:
                return f"{cause_of(pause)} for {pause.seconds:.2f} s"
        return ""

    def _continue(self, scale: tuple[float, float]) -> None:
        """Put it on record if times from here on are of another scale, or if the clock was set meanwhile."""
        wall, moment = scale
        other = WALL_CLOCK.at(moment) - wall
        # Something else has pinned this process's clock: what is written from now on is on that scale.
        apart = other if abs(other) > 1e-3 else WALL_CLOCK.step()
        if apart:
            self._stepped(ClockStep(WALL_CLOCK.now(), apart))

    def _stepped(self, step: ClockStep) -> None:
        if len(self._manifest.clock_steps) < _MOST:
            record = ClockStepRecord(at=Moment.of(step.at), seconds=step.seconds)
            self._manifest.clock_steps.append(record)
        self._emit(ClockStepped(seconds=step.seconds))
        self._on_change()

    def _paused(self, pause: Pause) -> None:
        if len(self._manifest.pauses) < _MOST:
            record = PauseRecord(at=Moment.of(pause.began), seconds=pause.seconds, slept=pause.slept)
            self._manifest.pauses.append(record)
        self._emit(ProgramPaused(began=pause.began, seconds=pause.seconds, slept=pause.slept))
        self._on_change()


def cause_of(pause: PauseRecord) -> str:
    """Say what a pause was."""
    return "this computer slept" if pause.slept else "the program did not run"


def note_sleep(record: CameraRecord, pauses: Sequence[PauseRecord]) -> None:
    """Put it on record as a gap if this computer slept while it recorded a camera by itself.

    A recorder here stands still with the computer. One in a device goes on, and so does one here while only
    the program's loop was blocked.
    """
    began, ended = record.commanded_at, record.stopped_at
    if began is None or ended is None or record.kind == "still":
        return
    if not any(file.source == "local" for file in record.files):
        return
    for pause in pauses:
        until = pause.at.unix + pause.seconds
        known = any(
            gap.began_at.unix <= until and (gap.ended_at is None or gap.ended_at.unix >= pause.at.unix)
            for gap in record.gaps
        )
        if pause.slept and not known and pause.at.unix > began.unix and until < ended.unix:
            record.gaps.append(
                GapRecord(began_at=pause.at, ended_at=Moment.of(until), reason=cause_of(pause))
            )
    record.gaps.sort(key=lambda gap: gap.began_at.unix)
