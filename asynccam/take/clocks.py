"""The scale of wall time that a take's manifest is on, and what happens to the clocks meanwhile."""

import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from asynccam.errors import RemoteProtocolError
from asynccam.model.events import ClockStepped, ProgramPaused
from asynccam.model.info import ClockOffset
from asynccam.model.intervals import ClockLine, Interval
from asynccam.model.manifest import (
    CameraRecord,
    ClockRecord,
    ClockStepRecord,
    GapRecord,
    Manifest,
    Moment,
    PauseRecord,
)
from asynccam.runtime.clock_watch import ClockStep, ClockWatch, Pause
from asynccam.runtime.timing import deadline
from asynccam.take.participant import Emit
from asynccam.wall_clock import WALL_CLOCK, ClockPin, unix_now

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


_LOG = logging.getLogger(__name__)

_STEPS: Final = 3
"""Steps in which a line is turned round; each leaves the drift, at most 500 ppm, of the error before."""


@dataclass(frozen=True, slots=True)
class TimeServer:
    """A reference clock for T0.

    Attributes:
        name: Goes into the manifest, ``pool.ntp.org:123`` for example.
        query: Asks it: server minus this computer.
    """

    name: str
    query: Callable[[], Awaitable[ClockOffset]]


class Reference:
    """The scale that T0 is on: a time server's once it has answered, and until then this computer's.

    Args:
        server: The time server, or None for this computer's clock.
        on_change: Called after each measurement, used or not.
        on_contradiction: Called with words for the first measurement that contradicts the earlier ones.
    """

    def __init__(
        self,
        server: TimeServer | None,
        on_change: Callable[[], None] = lambda: None,
        on_contradiction: Callable[[RemoteProtocolError], None] = lambda error: None,
    ) -> None:
        self._server = server
        self._on_change = on_change
        self._on_contradiction = on_contradiction
        self._clock: ClockRecord | None = None
        self._line: ClockLine | None = None
        self._converted: tuple[float, float] | None = None

    @property
    def name(self) -> str | None:
        """The time server's name, or None without one."""
        return None if self._server is None else self._server.name

    @property
    def clock(self) -> ClockRecord | None:
        """The server's clock minus this computer's, as measured so far; None if it never answered."""
        return self._clock

    async def ask(self, timeout: float) -> None:
        """Measure the server's clock; harmless without a server.

        Args:
            timeout: Seconds this may take.

        Raises:
            TimeoutError: It took longer.
            RemoteProtocolError: What came is no offset.
            AsynccamError: The query's own.
        """
        if self._server is None:
            return
        async with deadline(timeout, f"time from {self._server.name}"):
            measured = await self._server.query()
        if not (math.isfinite(measured.offset) and math.isfinite(measured.bound) and measured.bound >= 0):
            raise RemoteProtocolError(
                f"{self._server.name} gave an offset of {measured.offset} with a bound of {measured.bound}; "
                f"finite seconds and a bound of at least 0 were expected"
            )
        self._note(measured if measured.measured_at else replace(measured, measured_at=unix_now()))

    async def ask_again(self, timeout: float) -> None:
        """Measure once more. A server that fails, or contradicts itself, leaves what was measured before."""
        try:
            await self.ask(timeout)
        except Exception as error:  # noqa: BLE001 - a query is anybody's code; the earlier measurements stand
            _LOG.info("the clock of %s was not measured again: %s", self.name, error)

    def at_computer_time(self, when: float) -> float:
        """Return the time of the reference at a time of this computer, both Unix seconds."""
        return when if self._line is None else when + self._line.offset(when)

    def computer_time(self, when: float) -> float:
        """Return the time of this computer at a time of the reference, both Unix seconds."""
        if self._line is None or self._clock is None:
            return when
        known = self._converted
        if known is None or known[0] != when:  # a thousand cameras are given the same time, in a tight loop
            found = when - self._clock.offset
            for _ in range(_STEPS):
                found = when - self._line.offset(found)
            known = self._converted = when, found
        return known[1]

    def _note(self, measured: ClockOffset) -> None:
        known = self._clock
        if known is None:
            self._use(ClockRecord.of(measured))
        elif _contradicts(known, measured):
            if not known.rejected:
                expected = known.line().interval(measured.measured_at)
                self._on_contradiction(
                    RemoteProtocolError(
                        f"the clock of {self.name} was {measured.offset:+.4f} s from this computer's within "
                        f"{measured.bound:.4f} s, expected was {expected.middle:+.4f} s within "
                        f"{expected.bound:.4f} s: it was set, its answers are wrong, or another server "
                        f"gave them; what was measured before is used"
                    )
                )
            self._clock = known.with_rejected(measured)
        else:
            self._use(known.with_measurement(measured))
        self._on_change()

    def _use(self, clock: ClockRecord) -> None:
        self._clock, self._line, self._converted = clock, clock.line(), None


def _contradicts(known: ClockRecord, measured: ClockOffset) -> bool:
    """Return whether no clock within the drift limit can have given this beside what is known."""
    if known.consistent:
        return not known.with_measurement(measured).consistent
    # What is known covers everything that was said then; it must not be widened to what is said now.
    return (
        known.line().interval(measured.measured_at).excludes(Interval.around(measured.offset, measured.bound))
    )
