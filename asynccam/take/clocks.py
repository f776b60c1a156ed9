"""Clocks of a take: the scale of wall time that its manifest is on, and the time server that T0 refers to.

Times of a server and of this computer are never compared directly. They are converted here, by everything
that was measured. See docs/clocks.md.
"""

import logging
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from asynccam.errors import RemoteProtocolError
from asynccam.model.events import ClockStepped, ProgramPaused
from asynccam.model.info import ClockOffset
from asynccam.model.intervals import ClockLine, Interval
from asynccam.model.manifest import ClockRecord, ClockStepRecord, Manifest, Moment, PauseRecord
from asynccam.runtime.timing import ClockWatch, deadline
from asynccam.take.participant import Emit
from asynccam.wall_clock import WALL_CLOCK, unix_now

_LOG = logging.getLogger(__name__)

_MAX_RECORDS: Final = 1000
"""Steps and pauses kept in a manifest: a clock that is set all the time must not fill it."""
_INVERSION_STEPS: Final = 3
"""Steps to invert a line; each leaves the drift, at most 500 ppm, of the error before."""


class TakeClock:
    """Keeps one scale of wall time for a take, and records steps of the clock and pauses in its manifest."""

    def __init__(self, manifest: Manifest, emit: Emit, on_change: Callable[[], None] = lambda: None) -> None:
        self._manifest = manifest
        self._emit = emit
        self._on_change = on_change
        self._watch: ClockWatch | None = None

    def pin(self, scale: tuple[float, float] | None = None) -> None:
        """Begin to watch the clocks, on the manifest's scale if it has one already, see `WallClock.pin`."""
        WALL_CLOCK.pin(scale)
        self._watch = ClockWatch(self._on_event)
        if scale is not None:
            self._record_change_of_scale(scale)
        self._watch.start()

    def check(self) -> None:
        """Compare the clocks now; harmless before `pin`."""
        if self._watch is not None:
            self._watch.check()

    def release(self) -> None:
        """Stop watching, and let the clock follow the system again; harmless when called twice."""
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.stop()
            WALL_CLOCK.unpin()

    def pause_at(self, moment: float) -> str:
        """Return the pause that a Unix time lies in, in words; ``""`` if none is known."""
        for pause in self._manifest.pauses:
            if pause.at.unix <= moment <= pause.at.unix + pause.seconds:
                return f"{pause.cause} for {pause.seconds:.2f} s"
        return ""

    def journal_facts(self) -> dict[str, Any]:
        """Return what a journal holds of the clocks, as JSON."""
        reference = None if self._manifest.start is None else self._manifest.start.clock
        return {
            "reference": None if reference is None else reference.model_dump(mode="json"),
            "clock_steps": [step.model_dump(mode="json") for step in self._manifest.clock_steps],
            "pauses": [pause.model_dump(mode="json") for pause in self._manifest.pauses],
        }

    def _record_change_of_scale(self, scale: tuple[float, float]) -> None:
        """Record a step if times from here on are of another scale, or if the clock was set meanwhile."""
        wall, moment = scale
        other = WALL_CLOCK.at(moment) - wall
        # Another take has pinned this process's clock: what is written from now on is on that scale.
        apart = other if abs(other) > 1e-3 else WALL_CLOCK.step()
        if apart:
            self._on_event(ClockStepped(seconds=apart))

    def _on_event(self, event: ClockStepped | ProgramPaused) -> None:
        steps, pauses = self._manifest.clock_steps, self._manifest.pauses
        if isinstance(event, ClockStepped):
            if len(steps) < _MAX_RECORDS:
                steps.append(ClockStepRecord(at=Moment.of(event.at), seconds=event.seconds))
        elif len(pauses) < _MAX_RECORDS:
            at = Moment.of(event.began)
            pauses.append(PauseRecord(at=at, seconds=event.seconds, slept=event.slept))
        self._emit(event)
        self._on_change()


@dataclass(frozen=True, slots=True)
class TimeServer:
    """Reference clock for T0.

    Attributes:
        name: Recorded in the manifest, for example ``pool.ntp.org:123``.
        query: Returns the server's offset: server minus this computer.
    """

    name: str
    query: Callable[[], Awaitable[ClockOffset]]


class Reference:
    """The scale that T0 is on: this computer's, or a time server's once it has answered.

    ``on_change`` is called after each measurement, ``on_contradiction`` after the first that contradicts the
    earlier ones.
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
        # The server's clock minus this computer's, as measured so far; None without an answer.
        self.clock: ClockRecord | None = None
        self._line: ClockLine | None = None
        self._converted: tuple[float, float] | None = None

    @property
    def name(self) -> str | None:
        """Name of the time server, or None without one."""
        return None if self._server is None else self._server.name

    async def ask(self, timeout: float) -> None:
        """Measure the server's clock within ``timeout`` seconds; harmless without a server."""
        if self._server is None:
            return
        async with deadline(timeout, f"time from {self._server.name}"):
            measured = await self._server.query()
        if not (math.isfinite(measured.offset) and math.isfinite(measured.bound) and measured.bound >= 0):
            raise RemoteProtocolError(
                f"{self._server.name} gave an offset of {measured.offset} with a bound of {measured.bound}; "
                f"finite seconds and a bound of at least 0 were expected"
            )
        self._add(measured if measured.measured_at else replace(measured, measured_at=unix_now()))

    async def ask_again(self, timeout: float) -> None:
        """Measure once more; if that fails, the earlier measurements are kept."""
        try:
            await self.ask(timeout)
        except Exception as error:  # noqa: BLE001 - a query is the caller's code
            _LOG.info("the clock of %s was not measured again: %s", self.name, error)

    def at_computer_time(self, when: float) -> float:
        """Return the time of the reference at a time of this computer, both Unix seconds."""
        return when if self._line is None else when + self._line.offset(when)

    def computer_time(self, when: float) -> float:
        """Return the time of this computer at a time of the reference, both Unix seconds."""
        if self._line is None or self.clock is None:
            return when
        known = self._converted
        if known is None or known[0] != when:  # a thousand cameras are given the same time, in a tight loop
            found = when - self.clock.offset
            for _ in range(_INVERSION_STEPS):
                found = when - self._line.offset(found)
            known = self._converted = when, found
        return known[1]

    def _add(self, measured: ClockOffset) -> None:
        known = self.clock
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
            self.clock = known.with_rejected(measured)
        else:
            self._use(known.with_measurement(measured))
        self._on_change()

    def _use(self, clock: ClockRecord) -> None:
        self.clock, self._line, self._converted = clock, clock.line(), None


def _contradicts(known: ClockRecord, measured: ClockOffset) -> bool:
    """Return whether no clock within the drift limit can have given this besides what is known."""
    if known.consistent:
        return not known.with_measurement(measured).consistent
    # An inconsistent record covers all earlier answers; it must not be widened to this one as well.
    return (
        known.line().interval(measured.measured_at).excludes(Interval.around(measured.offset, measured.bound))
    )
