"""Starting and stopping a MultiCam device so that what it answers can be believed.

Three things a device's answer does not say: ``command_received`` comes from an OAK whose camera did not
open (and ``scheduled_recording_accepted`` from Android whatever it was told), ``recording`` from a device
that was recording already, and a start still scheduled fires even after a STOP. Each is
settled here by status queries. See docs/protocols/multicam.md.
"""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from asynccam.errors import (
    BusyError,
    ConnectionError,
    DeviceError,
    NotFoundError,
    RemoteProtocolError,
    RetryableError,
    TakenOverError,
    TimeoutError,
)
from asynccam.model.features import DeviceMoment, RecordingReport, RecordPlan, StartReport, StopReport
from asynccam.model.info import MediaFile
from asynccam.systems.multicam.armed_start import ArmedCommand
from asynccam.systems.multicam.client import MultiCamClient
from asynccam.systems.multicam.errors import refusal
from asynccam.systems.multicam.models import (
    SYNC_DELAY,
    CommandType,
    DeviceStatus,
    StatusResponse,
    StopRecordingResponse,
)
from asynccam.systems.multicam.vocabulary import answer_meaning
from asynccam.wall_clock import WALL_CLOCK, unix_now

_POLL: Final = 0.25
"""Seconds between two status queries."""
_ASK: Final = 2.0
"""Seconds a device gets to say what it records before it is stopped; a busy one is stopped unasked."""
_SAME_CLOCK: Final = 0.25
"""Seconds by which a clock, or its word on one first frame, may be corrected without being set."""
_SHORT_LEAD: Final = 0.3
"""Seconds ahead of its time from which on ``recording`` may answer a start that the device waited for."""


@dataclass(frozen=True, slots=True)
class _Began:
    """When a device says that its recording began, by its own clock, and how that clock stood then.

    Attributes:
        at: The first frame.
        bound: Its word is right within this many seconds.
        clock: Its clock minus this computer's elapsed time, when it said so.
    """

    at: float
    bound: float
    clock: float

    def is_of_another(self, now: "_Began") -> bool:
        """Return whether a later word is on another recording; a clock that was set tells nothing."""
        steady = abs(now.clock - self.clock) < _SAME_CLOCK
        return steady and now.at - self.at > _SAME_CLOCK + self.bound + now.bound


class MultiCamRecord:
    """`SupportsRecord` and `SupportsScheduledStart` of one device.

    Args:
        client: Talks to it.
        device_id: The device that is meant, for another one at its address is not started; by default the one
            that is armed first.
        confirm: Seconds after its moment within which a start that was only ``command_received`` has to
            show.
        settle: Seconds after its moment within which a start that was called off may still fire, for a
            device whose clock is off.
    """

    def __init__(
        self, client: MultiCamClient, *, device_id: str = "", confirm: float = 10.0, settle: float = 2.0
    ) -> None:
        self._client = client
        self._device_id = device_id
        self._confirm = confirm
        self._settle = settle
        self._may_fire_at: float | None = None  # elapsed time
        self._idle: RecordingReport | None = None
        self._file_id = ""  # of the recording that was started here
        self._began: _Began | None = None
        self._has_recorded = False

    @property
    def lead(self) -> float:
        """Seconds ahead of time a scheduled start should arrive: the protocol's sync delay."""
        return SYNC_DELAY

    async def arm(self, plan: RecordPlan) -> "MultiCamStart":
        """See that the device is free, and open the connection for its start.

        Raises:
            BusyError: It records or is stopping: a start now would be lost in what runs.
            NotFoundError: Another device is at its address.
            DeviceError: Its camera is disconnected.
            ConnectionError, TimeoutError, RemoteProtocolError: It cannot be asked.
        """
        asked_at = unix_now()
        status = await self._client.device_status(timeout=plan.timeout)
        if self._device_id and status.deviceId and status.deviceId != self._device_id:
            raise NotFoundError(f"{self._client.address} is {status.deviceId!r}, not {self._device_id!r}")
        self._device_id = self._device_id or status.deviceId
        self._idle = RecordingReport(asked_at, unix_now(), recording=False)
        self._file_id, self._began, self._has_recorded = "", None, False
        if status.isRecording or status.status in (DeviceStatus.RECORDING, DeviceStatus.STOPPING):
            raise BusyError(f"{self._client.address} is {status.status}; stop that first")
        if status.status == DeviceStatus.CAMERA_DISCONNECTED:
            raise refusal(self._client.address, CommandType.START_RECORDING, status)
        return MultiCamStart(self, await self._client.arm(), plan)

    def released(self, at: float | None) -> None:
        """Remember when the device may begin.

        Args:
            at: Unix seconds of this computer; None once it certainly will not.
        """
        self._may_fire_at = None if at is None else WALL_CLOCK.elapsed() + at - unix_now()

    @property
    def idle(self) -> RecordingReport | None:
        """When the device last said that it is free, ahead of a start."""
        return self._idle

    async def recording_report(self, *, timeout: float = 10.0) -> RecordingReport:
        """Ask the device whether it records, and since when, where it tells.

        Raises:
            ConnectionError, TimeoutError, RemoteProtocolError: It cannot be asked.
        """
        _, seen = await self._ask(timeout)
        return seen

    async def _ask(self, timeout: float) -> tuple[StatusResponse, RecordingReport]:
        asked_at = unix_now()
        status = await self._client.device_status(timeout=timeout, first_frame=True)
        told = _device_moment(status.firstFrameAt, status.firstFrameBound) if status.isRecording else None
        if status.isRecording:
            self.learn(status)
        return status, RecordingReport(asked_at, unix_now(), status.isRecording, told)

    def learn(self, answer: StatusResponse) -> None:
        """Remember what a device tells of the recording that was started here: its file, its first frame."""
        self._has_recorded = True
        self._file_id = self._file_id or answer.fileId or ""
        self._began = self._began or _began(answer)

    async def _see_that_it_is_ours(self, timeout: float) -> bool | None:
        """Ask who is there and what it records, before a stop that would end whatever runs.

        A device that does not answer, or tells nothing to know its recording by, is stopped as before.

        Returns:
            Whether it records, or None if it does not tell.

        Raises:
            NotFoundError: Another device is at the address.
            TakenOverError: It records for somebody else: the recording that was started here has ended.
        """
        if not self._device_id and not self._file_id and self._began is None:
            return None
        try:
            status = await self._client.device_status(timeout=min(_ASK, timeout / 4), first_frame=True)
        except (RetryableError, RemoteProtocolError):
            return None
        if self._device_id and status.deviceId and status.deviceId != self._device_id:
            raise NotFoundError(f"{self._client.address} is {status.deviceId!r}, not {self._device_id!r}")
        if not status.isRecording:
            return False
        began = _began(status)
        other = bool(self._file_id and status.fileId and status.fileId != self._file_id)
        if other or (self._began is not None and began is not None and self._began.is_of_another(began)):
            raise TakenOverError(
                f"{self._client.address} records for somebody else; the recording that was started here was"
                f" ended before this stop, which was not sent"
            )
        return True

    async def confirm(self, timeout: float) -> tuple[StatusResponse, tuple[RecordingReport, ...]]:
        """Ask until the device records, which it is to do since the moment that `released` was given.

        Args:
            timeout: Seconds this may take at most.

        Returns:
            The answer that says so, or the last one if the device uses words nobody knows; and what each
            answer said.

        Raises:
            DeviceError: It has failed, or is idle after all.
            ConnectionError, TimeoutError: It does not answer any more; it may be recording.
        """
        now, due = time.monotonic(), self._may_fire_at
        ahead = 0.0 if due is None else max(0.0, due - WALL_CLOCK.elapsed())
        until = now + min(timeout, ahead + self._confirm)
        seen: list[RecordingReport] = []
        for pause in _pauses():
            try:
                status, one = await self._ask(max(_POLL, until - time.monotonic()))
            except (ConnectionError, TimeoutError) as error:
                error.maybe_executed = True
                raise
            seen.append(one)
            if status.isRecording:
                return status, tuple(seen)
            if DeviceStatus.is_error(status.status):
                raise refusal(self._client.address, CommandType.START_RECORDING, status)
            if time.monotonic() >= until:
                if status.status == DeviceStatus.READY:
                    raise DeviceError(
                        f"{self._client.address} took the start but does not record", status=status.raw_status
                    )
                return status, tuple(seen)
            await asyncio.sleep(pause)
        raise AssertionError("the pauses have no end")

    async def stop(self, *, timeout: float = 60.0) -> StopReport:
        """Stop the recording, or a scheduled one that has not begun, and say what it left.

        A scheduled start fires on real devices even after a STOP, so if its moment is still ahead the
        device is watched until shortly after it and stopped again.

        Args:
            timeout: Seconds a device may take to answer, and a called-off start is watched at most.

        Raises:
            NotFoundError: Another device is at its address; nothing was sent.
            TakenOverError: It records for somebody else, as far as it tells; nothing was sent.
            DeviceError: The device refuses; it was not recording, for example.
            TimeoutError: It does not answer, or its scheduled moment is too far away to wait for.
            ConnectionError, RemoteProtocolError: As everywhere.
        """
        began = time.monotonic()
        recording = await self._see_that_it_is_ours(timeout)
        timeout = max(timeout - (time.monotonic() - began), 0.001)
        commanded_at, asked = WALL_CLOCK.pair()
        may_fire_at = self._may_fire_at
        answer: StopRecordingResponse | None = None
        files: tuple[MediaFile, ...] = ()
        refused: DeviceError | None = None
        try:
            answer = await self._client.stop_recording(timeout=timeout, first_frame=True)
            files = _files(answer)
        except DeviceError as error:
            refused = error
        ahead = may_fire_at is not None and asked < may_fire_at
        # One that was seen to record, and does not, was ended by somebody: its start has fired.
        just_passed = (
            may_fire_at is not None and asked < may_fire_at + self._settle and not self._has_recorded
        )
        if may_fire_at is not None and (ahead or (just_passed and not files)):
            late = await self._watch(may_fire_at, asked + timeout, timeout)
            if late is not None:
                answer, files = late, files + _files(late)
            refused = None
        self._may_fire_at = None
        if refused is not None:
            if recording is False:
                why = "its recording was ended before this stop, by somebody else or by itself"
                refused.args = (f"{refused}; {why}",)
            raise refused
        if answer is None:
            return StopReport(commanded_at, unix_now(), DeviceStatus.READY.value, files)
        told = _device_moment(answer.firstFrameAt, answer.firstFrameBound)
        return StopReport(commanded_at, unix_now(), answer.status, files, first_frame=told)

    async def _watch(
        self, may_fire_at: float, give_up: float, timeout: float
    ) -> StopRecordingResponse | None:
        """See whether a start that was called off fires all the same, and stop it then (times: elapsed)."""
        until = may_fire_at + self._settle
        while True:
            unreachable: RetryableError | None = None
            try:
                status = await self._client.device_status(timeout=max(_POLL, until - WALL_CLOCK.elapsed()))
                if status.isRecording:
                    return await self._client.stop_recording(timeout=timeout, first_frame=True)
            except RetryableError as error:
                unreachable = error
            now = WALL_CLOCK.elapsed()
            if now >= until:
                if unreachable is not None:
                    raise unreachable
                return None
            if now >= give_up:
                raise TimeoutError(
                    f"{self._client.address} may still start {may_fire_at - now:.0f} s from now: its start"
                    f" was scheduled, and a device may not call one off",
                    maybe_executed=True,
                )
            await asyncio.sleep(_POLL)


class MultiCamStart:
    """`ArmedStart` of one device.

    Args:
        record: Whose start it is.
        armed: The command on its connection.
        plan: How long things may take.
    """

    def __init__(self, record: MultiCamRecord, armed: ArmedCommand, plan: RecordPlan) -> None:
        self._record = record
        self._armed = armed
        self._plan = plan
        self._at: float | None = None
        self._due: float | None = None  # the same moment by this computer's clock

    def release(self, at: float | None) -> None:
        """Send the start in place; never waits. Errors as of `ArmedCommand.release`."""
        due = None if at is None else self._plan.computer_time(at)
        self._armed.release(at, due=due)
        self._at, self._due = at, due
        self._record.released(self._armed.commanded_at if due is None else due)

    async def accepted(self) -> StartReport:
        """Wait for the answer, and where that proves nothing for the recording itself.

        Raises:
            ClockNotSynchronizedError, DeviceError: The device refused, or does not record after all.
            ConnectionError, TimeoutError: ``maybe_executed`` says whether it may have started.
            RemoteProtocolError: What came is no answer.
        """
        try:
            answer = await self._armed.accepted(timeout=self._plan.timeout)
        except DeviceError:
            self._record.released(None)
            raise
        except (ConnectionError, TimeoutError) as error:
            if not error.maybe_executed:
                self._record.released(None)
            raise
        commanded_at, accepted_at = self._armed.commanded_at, self._armed.answered_at
        assert commanded_at is not None
        assert accepted_at is not None
        # Android says so to a start for now too, which then proves nothing.
        scheduled = answer.status == DeviceStatus.SCHEDULED_RECORDING_ACCEPTED and self._at is not None
        meaning = answer_meaning(answer.dialect, answer.status, scheduled=self._at is not None)
        seen: tuple[RecordingReport, ...] = ()
        if answer.isRecording:
            self._record.learn(answer)
        begun = answer.status == DeviceStatus.RECORDING
        # A device that records already says "recording" to any start, also to one whose time is far ahead.
        early = begun and self._due is not None and accepted_at < self._due - _SHORT_LEAD
        if early and self._record.idle is not None:
            seen = (self._record.idle,)
        if not scheduled and not begun:
            answer, seen = await self._record.confirm(self._plan.timeout)
        return StartReport(
            commanded_at,
            accepted_at,
            answer.status,
            scheduled_for=self._at if scheduled else None,
            meaning=meaning,
            seen=seen,
            first_frame=_device_moment(answer.firstFrameAt, answer.firstFrameBound),
            already_recording=early,
            started_by_other=early and not self._by_its_clock(answer.timestamp),
        )

    def _by_its_clock(self, told: float | None) -> bool:
        """Return whether a device may have begun because its own clock, which is ahead, says it is time."""
        return self._at is None or told is None or told > self._at - _SHORT_LEAD

    async def aclose(self) -> None:
        """Close the connection; a start that has left is not called back by this."""
        await self._armed.aclose()


def _pauses() -> Iterator[float]:
    """Seconds between questions: few at first, then steady."""
    yield 0.05
    yield 0.1
    while True:
        yield _POLL


def _device_moment(at: float | None, bound: float | None) -> DeviceMoment | None:
    if at is None:
        return None
    return DeviceMoment(at, bound if bound is not None and bound >= 0 else None)


def _began(answer: StatusResponse) -> _Began | None:
    moment = _device_moment(answer.firstFrameAt, answer.firstFrameBound) if answer.isRecording else None
    if moment is None or answer.timestamp is None:
        return None
    return _Began(moment.time, moment.bound or 0.0, answer.timestamp - WALL_CLOCK.elapsed())


def _files(answer: StopRecordingResponse) -> tuple[MediaFile, ...]:
    """The recording a stop names; a size of 0 means that it is packed later."""
    name = answer.fileName or answer.fileId
    return (MediaFile(name, answer.fileSize or None, answer.fileId or ""),) if name else ()
