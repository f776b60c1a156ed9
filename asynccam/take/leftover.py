"""One camera's part in a take whose process died: what ends it there, with whatever happens put on record."""

import logging
from typing import Final

from asynccam.errors import TakenOverError
from asynccam.model.features import Record, StopsOrphanedRecording, TellsRecording
from asynccam.model.info import CameraState
from asynccam.model.manifest import Moment
from asynccam.runtime.timing import deadline, sleep_until
from asynccam.take.participant import SURELY_REFUSED, Participant
from asynccam.wall_clock import WALL_CLOCK, unix_now

_LOG = logging.getLogger(__name__)
_SAME_CLOCK: Final = 2.0
"""Seconds by which a device's clock, or its word on one first frame, may differ between two programs."""


class ResumedParticipant(Participant):
    """A camera that another process had told to start."""

    async def stop_leftover(self, t0: float, latest: float, *, stop_sent: bool) -> None:
        """Stop what a process that died had started, and learn what files it made.

        Unlike `stop`, a camera that refuses is no failure: it may have ended by itself meanwhile.

        Args:
            t0: T0 by elapsed time, as far as it is known; a start that was scheduled may be ahead still.
            latest: The same as late as it can have been; after ``t0`` where only wall time tells.
            stop_sent: Whether that process may have stopped it. Then one that is idle has been stopped in
                order, though the answer was not heard; else it ended by itself.
        """
        self.bound_stop(max(t0, latest))
        if await self._records_for_another():
            words = f"{self.camera.id} records for somebody else now; that recording is left alone"
            self.fail("resume", TakenOverError(words))
            await self._look_for_files()
            self.may_record = False
            return
        if self.scheduled and WALL_CLOCK.elapsed() < t0 + self._limits.late_start_grace:
            ahead = WALL_CLOCK.elapsed() < t0
            await self._call_off(t0)
            if self.record.stopped_at is None and ahead:  # it did not start
                self.may_record = False
                return
        else:
            try:
                await self._ask_to_stop(self._limits.stop_timeout)
            except SURELY_REFUSED as error:
                _LOG.info("%s answered a stop after its controller's death with: %s", self.camera.id, error)
                self.record.stop_status = str(error)
            except Exception as error:  # noqa: BLE001 - as in `recording_errors`; tried once more if it records
                await self._stop_again(error, self._limits.stop_timeout)
            if (
                self.scheduled
                and not self.files
                and WALL_CLOCK.elapsed() < latest + self._limits.late_start_grace
            ):
                await self._stop_late_fire(latest)
        if not self.files:
            await self._look_for_files()
        if self.record.stopped_at is None and self.files and stop_sent:
            status = await self._status()
            if status is not None and status.state is CameraState.READY:
                self.record.stopped_at = Moment.of(unix_now())  # no later than this
        self.may_record = False

    async def _records_for_another(self) -> bool:
        """Return whether the device tells of a first frame that is later than the one of this take.

        Both are words of its own clock; one that was set meanwhile tells nothing, and what runs is stopped.
        """
        told, clock = self.record.device_first_frame, self.record.clock
        recorder = self.camera.feature(Record)
        if told is None or clock is None or not isinstance(recorder, TellsRecording):
            return False
        try:
            async with deadline(self._limits.status_timeout, f"status of {self.camera.id}"):
                seen = await recorder.recording_seen(timeout=self._limits.status_timeout)
                status = await self.camera.status()
        except Exception as error:  # noqa: BLE001 - as in `recording_errors`; unknown, so it is stopped
            _LOG.info("%s does not say what it records: %s", self.camera.id, error)
            return False
        if not seen.recording or seen.first_frame is None or status.device_time is None:
            return False
        now = unix_now()
        expected = clock.line().interval(now)  # wider the longer ago it was measured
        offset = status.device_time - now
        was_set = not expected.low - _SAME_CLOCK <= offset <= expected.high + _SAME_CLOCK
        return not was_set and seen.first_frame.time - told.unix > _SAME_CLOCK

    async def _stop_late_fire(self, until: float) -> None:
        """Stop a camera that did not record yet, if it starts after all by a moment of elapsed time."""
        if WALL_CLOCK.elapsed() >= until:
            return
        await sleep_until(until)
        status = await self._status()
        if status is not None and status.state is CameraState.RECORDING:
            await self._stop(self._limits.stop_timeout)

    async def end_leftovers(self) -> None:
        """End what a process that died left at the camera and a stop would not reach."""
        record = self.camera.feature(Record) if self.camera.supports(Record) else None
        if isinstance(record, StopsOrphanedRecording):
            with self.recording_errors("stop"):
                async with deadline(self._limits.stop_timeout, f"end of what runs at {self.camera.id}"):
                    await record.end_leftovers(timeout=self._limits.stop_timeout)
