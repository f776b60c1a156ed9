"""MultiCamCamera: a MultiCam device as a `Camera`, with its recorder.

Three facts a reply to a start or stop does not report, each settled here by status queries:

- An OAK replies ``command_received`` although its camera did not open, and Android replies
  ``scheduled_recording_accepted`` to a start for now too.
- ``recording`` is also the reply of a device that was recording already.
- A scheduled start fires even after a STOP.

See docs/protocols/multicam.md.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import quote

from asynccam.errors import (
    AddressError,
    BusyError,
    ConnectionError,
    DeviceError,
    NotFoundError,
    RemoteProtocolError,
    RetryableError,
    TakenOverError,
    TimeoutError,
)
from asynccam.model.address import Address
from asynccam.model.camera import Camera
from asynccam.model.digest import DigestName
from asynccam.model.features import (
    DeviceClock,
    DeviceMoment,
    FeatureKey,
    Files,
    Progress,
    Record,
    RecordingReport,
    RecordPlan,
    ScheduledStart,
    StartReport,
    StopReport,
)
from asynccam.model.identity import device_mismatch
from asynccam.model.info import CameraInfo, CameraState, CameraStatus, ClockOffset, LocalFile, MediaFile
from asynccam.runtime.tasks import finish_on_error
from asynccam.systems.multicam.client import MultiCamClient
from asynccam.systems.multicam.connection import ArmedCommand
from asynccam.systems.multicam.models import (
    SYNC_DELAY,
    TCP_PORT,
    CommandType,
    DeviceStatus,
    StatusResponse,
    StopRecordingResponse,
    answer_meaning,
    refusal,
)
from asynccam.wall_clock import WALL_CLOCK, unix_now

MakeClient = Callable[[str | Sequence[str], int], MultiCamClient]
"""Makes a client from a host, or several addresses of one, and a port."""

_LOG = logging.getLogger(__name__)

_POLL_INTERVAL: Final = 0.25
"""Seconds between two status queries."""
_OWNERSHIP_TIMEOUT: Final = 2.0
"""Seconds for the status query before a stop; a device that is too busy to answer is stopped without it."""
_CLOCK_TOLERANCE: Final = 0.25
"""Seconds by which a clock, or a reported first frame, may be corrected without the clock having been set."""
_SHORT_LEAD: Final = 0.3
"""Seconds before its time from which on ``recording`` may answer a start that the device waited for."""

_STATES: Final = {
    DeviceStatus.READY: CameraState.READY,
    DeviceStatus.RECORDING: CameraState.RECORDING,
    DeviceStatus.STOPPING: CameraState.STOPPING,
    DeviceStatus.ERROR: CameraState.ERROR,
    DeviceStatus.CAMERA_DISCONNECTED: CameraState.UNAVAILABLE,
    DeviceStatus.SCHEDULED_RECORDING_ACCEPTED: CameraState.READY,
    DeviceStatus.RECORDING_STOPPED: CameraState.READY,
    DeviceStatus.UPLOADING: CameraState.READY,
    DeviceStatus.UPLOAD_QUEUED: CameraState.READY,
    DeviceStatus.UPLOAD_COMPLETED: CameraState.READY,
    DeviceStatus.UPLOAD_FAILED: CameraState.READY,
}


class _DeviceIdentity:
    """Device id that replies must have; learned from the first reply unless known before."""

    def __init__(self, reported: str = "", *, announced: str = "") -> None:
        self._reported = reported
        self._announced = announced

    @property
    def known(self) -> str:
        return self._announced or self._reported

    def check(self, address: str, reply: StatusResponse, *, to_record: bool = False) -> None:
        """Raise `NotFoundError` for another device's reply."""
        if not reply.deviceId:
            return
        # An announcement may spell the id differently from the device, so it counts for recording only.
        expected = self.known if to_record else self._reported
        other = (
            device_mismatch(address, {"deviceId": expected}, {"deviceId": reply.deviceId}) if expected else ""
        )
        if other:
            raise NotFoundError(other)
        self._reported = self._reported or reply.deviceId


class MultiCamCamera(Camera):
    """One device, identified by its id at whatever address; made by `connect` or by discovery.

    Features are `Record`, `ScheduledStart`, `Files` and `DeviceClock`. Errors are those of `MultiCamClient`.

    Args:
        device_id: The device's own id.
        client: Connects to the device; closed with the camera.
        model: Kind of device, if known.
        is_told: Whether the device itself reports that id: then no other device is recorded in its place.

    Attributes:
        client: For features that only MultiCam has: uploads, heartbeats, bare commands.
    """

    def __init__(
        self, device_id: str, client: MultiCamClient, *, model: str = "", is_told: bool = False
    ) -> None:
        self.client = client
        self._device_id = device_id
        self._id = f"multicam://{quote(device_id, safe='')}"
        self._model = model
        self._answers_as = device_id
        self._is_told = is_told
        self._identity = _DeviceIdentity(announced=device_id if is_told else "")
        record = MultiCamRecord(client, identity=self._identity)
        self._features: Mapping[FeatureKey[Any], object] = MappingProxyType(
            {Record: record, ScheduledStart: record, Files: self, DeviceClock: self}
        )

    @classmethod
    async def connect(
        cls,
        address: Address | str,
        *,
        make_client: MakeClient = MultiCamClient,
    ) -> "MultiCamCamera":
        """Identify the device at an address; needs no mDNS.

        Args:
            address: `Address`, ``multicam://HOST[:PORT][/DEVICE]``, or a host alone, on port 8080 then.
            make_client: Makes the client from host and port; for other deadlines, pass
                ``functools.partial(MultiCamClient, timeout=10)``.

        Raises:
            AddressError: Not an address of this system.
            NotFoundError: Another device than the named one answers.
            ConnectionError, TimeoutError: The address does not answer.
            RemoteProtocolError: The reply is not a MultiCam device's.
        """
        if isinstance(address, str):
            address = Address.parse(address) if "://" in address else Address("multicam", address, TCP_PORT)
        if address.system != "multicam":
            raise AddressError(f"{address} is not the address of a MultiCam device")
        client = make_client(address.host, address.port)
        async with finish_on_error(client.aclose):
            reply = await client.device_status()
            if not reply.deviceId:
                raise RemoteProtocolError(f"{client.address} does not report its device id")
            if address.camera not in ("", reply.deviceId):
                raise NotFoundError(f"{client.address} is {reply.deviceId!r}, not {address.camera!r}")
        camera = cls(reply.deviceId, client, model=str(reply.deviceType or ""), is_told=True)
        camera._learn(reply)
        return camera

    @property
    def info(self) -> CameraInfo:
        """Identity of the device, and the address that accepted last."""
        return CameraInfo(
            id=self._id,
            system="multicam",
            name=self._device_id,
            serial=self._device_id,
            address=self.client.address,
            model=self._model,
            identity={"deviceId": self._device_id} if self._is_told else {},
        )

    @property
    def id(self) -> str:
        """Stable identity, ``info.id``."""
        return self._id

    @property
    def features(self) -> Mapping[FeatureKey[Any], object]:
        """Features by key."""
        return self._features

    def follow(self, hosts: str | Sequence[str], port: int) -> None:
        """Use another address, or several, from the next connection on.

        Raises:
            UsageError: Not a host and a port from 1 to 65535.
        """
        self.client.follow(hosts, port)

    async def status(self) -> CameraStatus:
        """Ask the device for its status; raise `NotFoundError` if another device answers at its address."""
        reply = await self.client.device_status()
        self._learn(reply)
        known = DeviceStatus.of(reply.status)
        state = _STATES.get(known, CameraState.UNKNOWN) if known is not None else CameraState.UNKNOWN
        has_battery = reply.batteryLevel is not None and reply.batteryLevel >= 0
        return CameraStatus(
            state=CameraState.RECORDING if reply.isRecording else state,
            detail=reply.message or reply.raw_status,
            device_time=reply.timestamp,
            battery=reply.batteryLevel if has_battery else None,  # -1: the device cannot measure it
            extra=_uploads(reply),
        )

    async def list_files(self) -> tuple[MediaFile, ...]:
        """Return the recordings that the device lists; one that it has yet to pack is not among them."""
        reply = await self.client.list_files()
        return tuple(
            MediaFile(entry.fileName, entry.fileSize or None, entry.fileId, entry.creationDate)
            for entry in reply.files
        )

    async def download(
        self,
        file: MediaFile | str,
        directory: Path,
        *,
        progress: Progress | None = None,
        digest: DigestName | None = "sha256",
    ) -> LocalFile:
        """Download one file whole, under a name made safe, never over an existing file.

        Many devices delete their copy once they have sent it: see `MultiCamClient.download`, which also
        lists the errors.

        Args:
            file: A file that the device listed or a stop named, or its name or id alone.
            directory: Created if missing.
            progress: Called with bytes so far and the total.
            digest: Algorithm of the digest; None for no digest.
        """
        if isinstance(file, str):
            file = await self._find(file)
        return await self.client.download(
            file.name,
            directory,
            file_id=file.id or None,
            size=file.size,
            progress=progress,
            digest=digest,
        )

    async def measure_clock(self, *, samples: int = 8) -> ClockOffset:
        """Compare the device's system clock with this computer's; see `MultiCamClient.measure_clock`."""
        return await self.client.measure_clock(samples=samples)

    async def aclose(self) -> None:
        """Close armed starts; may be called twice."""
        await self.client.aclose()

    async def _find(self, name: str) -> MediaFile:
        """Look up the other name and the size of a file; the name alone where the device does not list it."""
        try:
            listed = await self.list_files()
        except DeviceError:
            listed = ()
        return next((file for file in listed if name in (file.name, file.id)), MediaFile(name))

    def _learn(self, reply: StatusResponse) -> None:
        self._identity.check(self.client.address, reply)
        if reply.deviceType:
            self._model = str(reply.deviceType)
        if reply.deviceId != self._answers_as:
            _LOG.warning("%s answers as %r", self.info.id, reply.deviceId)
            self._answers_as = reply.deviceId


def _uploads(reply: StatusResponse) -> Mapping[str, Any]:
    """Return the upload queues that are not empty; the items hide their credentials."""
    queues = {"uploadQueue": reply.uploadQueue, "failedUploadQueue": reply.failedUploadQueue}
    return MappingProxyType({name: tuple(queue) for name, queue in queues.items() if queue})


@dataclass(frozen=True, slots=True)
class _FirstFrame:
    """First frame of a recording as the device reported it, seconds."""

    at: float  # by the device's clock
    bound: float  # uncertainty of ``at``
    clock: float  # the device's clock minus this computer's elapsed time at that moment

    def is_of_another(self, later: "_FirstFrame") -> bool:
        """Return whether a later report is of another recording; after a clock was set it proves nothing."""
        steady = abs(later.clock - self.clock) < _CLOCK_TOLERANCE
        return steady and later.at - self.at > _CLOCK_TOLERANCE + self.bound + later.bound


class MultiCamRecord:
    """`SupportsRecord` and `SupportsScheduledStart` of one device."""

    def __init__(
        self,
        client: MultiCamClient,
        *,
        identity: _DeviceIdentity | None = None,
        confirm: float = 10.0,  # seconds in which a start that was only ``command_received`` must show
        settle: float = 2.0,  # seconds in which a cancelled start may still fire, if its clock is off
    ) -> None:
        self._client = client
        self._identity = identity or _DeviceIdentity()
        self._confirm = confirm
        self._settle = settle
        self._may_fire_at: float | None = None  # elapsed time
        self.idle: RecordingReport | None = None  # last status before a start, of a free device
        self._file_id = ""  # of the recording that was started here
        self._first_frame: _FirstFrame | None = None
        self._has_recorded = False

    @property
    def lead(self) -> float:
        """Seconds ahead of time a scheduled start should arrive: the protocol's sync delay."""
        return SYNC_DELAY

    async def arm(self, plan: RecordPlan) -> "MultiCamStart":
        """Check that the device is free (else raise `BusyError`), and open the connection for its start."""
        asked_at = unix_now()
        status = await self._client.device_status(timeout=plan.timeout)
        self._identity.check(self._client.address, status, to_record=True)
        self.idle = RecordingReport(asked_at, unix_now(), recording=False)
        self._file_id, self._first_frame, self._has_recorded = "", None, False
        if status.isRecording or status.status in (DeviceStatus.RECORDING, DeviceStatus.STOPPING):
            raise BusyError(f"{self._client.address} is {status.status}; stop that first")
        if status.status == DeviceStatus.CAMERA_DISCONNECTED:
            raise refusal(self._client.address, CommandType.START_RECORDING, status)
        return MultiCamStart(self, await self._client.arm(), plan)

    def set_release_time(self, at: float | None) -> None:
        """Remember when the device may begin: Unix seconds of this computer; None if it never will."""
        self._may_fire_at = None if at is None else WALL_CLOCK.elapsed() + at - unix_now()

    def learn(self, reply: StatusResponse) -> None:
        """Remember the file id and first frame that the device reports of the recording started here."""
        self._has_recorded = True
        self._file_id = self._file_id or reply.fileId or ""
        self._first_frame = self._first_frame or _first_frame(reply)

    async def recording_report(self, *, timeout: float = 10.0) -> RecordingReport:
        """Ask the device whether it records, and for its first frame, where it reports that."""
        _, seen = await self._query(timeout)
        return seen

    async def _query(self, timeout: float) -> tuple[StatusResponse, RecordingReport]:
        asked_at = unix_now()
        status = await self._client.device_status(timeout=timeout, first_frame=True)
        moment = _device_moment(status.firstFrameAt, status.firstFrameBound) if status.isRecording else None
        if status.isRecording:
            self.learn(status)
        return status, RecordingReport(asked_at, unix_now(), status.isRecording, moment)

    async def confirm(self, timeout: float) -> tuple[StatusResponse, tuple[RecordingReport, ...]]:
        """Poll for at most ``timeout`` seconds until the device records; return status and all results.

        Raises `DeviceError` if it failed or is still idle. One with unknown statuses gets the last one.
        """
        now, due = time.monotonic(), self._may_fire_at
        ahead = 0.0 if due is None else max(0.0, due - WALL_CLOCK.elapsed())
        until = now + min(timeout, ahead + self._confirm)
        results: list[RecordingReport] = []
        for pause in chain((0.05, 0.1), repeat(_POLL_INTERVAL)):
            try:
                status, seen = await self._query(max(_POLL_INTERVAL, until - time.monotonic()))
            except (ConnectionError, TimeoutError) as error:
                error.maybe_executed = True
                raise
            results.append(seen)
            if status.isRecording:
                return status, tuple(results)
            if DeviceStatus.is_error(status.status):
                raise refusal(self._client.address, CommandType.START_RECORDING, status)
            if time.monotonic() >= until:
                if status.status == DeviceStatus.READY:
                    raise DeviceError(
                        f"{self._client.address} accepted the start but does not record",
                        status=status.raw_status,
                    )
                return status, tuple(results)  # a status that is not known
            await asyncio.sleep(pause)
        raise AssertionError("the intervals have no end")

    async def stop(self, *, timeout: float = 60.0) -> StopReport:
        """Stop the recording, or a scheduled one that has not begun, and report its file.

        Around its moment a scheduled one is polled and stopped again, for at most ``timeout`` seconds.
        No stop is sent to another device (`NotFoundError`) or for another's recording (`TakenOverError`).
        `TimeoutError` also means that a scheduled moment is too far ahead to wait for; `DeviceError` that the
        device refuses, as it does not record for example.
        """
        began = time.monotonic()
        recording = await self._check_ownership(timeout)
        timeout = max(timeout - (time.monotonic() - began), 0.001)
        commanded_at, asked = WALL_CLOCK.pair()
        may_fire_at = self._may_fire_at
        reply: StopRecordingResponse | None = None
        files: tuple[MediaFile, ...] = ()
        refused: DeviceError | None = None
        try:
            reply = await self._client.stop_recording(timeout=timeout, first_frame=True)
            files = _files(reply)
        except DeviceError as error:
            refused = error
        ahead = may_fire_at is not None and asked < may_fire_at
        # A recording that was seen and is over was ended by somebody: its start has fired.
        just_passed = (
            may_fire_at is not None and asked < may_fire_at + self._settle and not self._has_recorded
        )
        # A scheduled start fires on real devices even after a STOP: poll past its time, and stop again.
        if may_fire_at is not None and (ahead or (just_passed and not files)):
            late = await self._stop_late_start(may_fire_at, asked + timeout, timeout)
            if late is not None:
                reply, files = late, files + _files(late)
            refused = None
        self._may_fire_at = None
        if refused is not None:
            if recording is False:
                why = "its recording was ended before this stop, by somebody else or by itself"
                refused.args = (f"{refused}; {why}",)
            raise refused
        if reply is None:
            return StopReport(commanded_at, unix_now(), DeviceStatus.READY.value, files)
        moment = _device_moment(reply.firstFrameAt, reply.firstFrameBound)
        return StopReport(commanded_at, unix_now(), reply.status, files, first_frame=moment)

    async def _check_ownership(self, timeout: float) -> bool | None:
        """Return whether the device records, before a stop, which would end whatever runs.

        None if it does not answer, or reports nothing to compare.
        """
        if not self._identity.known and not self._file_id and self._first_frame is None:
            return None
        try:
            status = await self._client.device_status(
                timeout=min(_OWNERSHIP_TIMEOUT, timeout / 4), first_frame=True
            )
        except (RetryableError, RemoteProtocolError):
            return None
        self._identity.check(self._client.address, status, to_record=True)
        if not status.isRecording:
            return False
        mine, now = self._first_frame, _first_frame(status)
        other_file = bool(self._file_id and status.fileId and status.fileId != self._file_id)
        if other_file or (mine is not None and now is not None and mine.is_of_another(now)):
            raise TakenOverError(
                f"{self._client.address} records for somebody else; the recording that was started here was"
                f" ended before this stop, which was not sent"
            )
        return True

    async def _stop_late_start(
        self, may_fire_at: float, give_up: float, timeout: float
    ) -> StopRecordingResponse | None:
        """Poll for a cancelled start that fires all the same, and stop it then (times: elapsed)."""
        until = may_fire_at + self._settle
        while True:
            unreachable: RetryableError | None = None
            try:
                status = await self._client.device_status(
                    timeout=max(_POLL_INTERVAL, until - WALL_CLOCK.elapsed())
                )
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
                    f" was scheduled, and a device may not cancel one",
                    maybe_executed=True,
                )
            await asyncio.sleep(_POLL_INTERVAL)


class MultiCamStart:
    """`ArmedStart` of one device: its recorder, the command on its connection, and the plan's deadlines."""

    def __init__(self, record: MultiCamRecord, command: ArmedCommand, plan: RecordPlan) -> None:
        self._record = record
        self._command = command
        self._plan = plan
        self._at: float | None = None
        self._due: float | None = None  # the same moment by this computer's clock

    def release(self, at: float | None) -> None:
        """Send the start in place; never waits. Errors as of `ArmedCommand.release`."""
        due = None if at is None else self._plan.computer_time(at)
        self._command.release(at, due=due)
        self._at, self._due = at, due
        self._record.set_release_time(self._command.commanded_at if due is None else due)

    async def accepted(self) -> StartReport:
        """Wait for the reply, and where that proves nothing for the recording itself.

        Errors as of `ArmedCommand.accepted`; a `DeviceError` also if the device does not record after all.
        """
        try:
            reply = await self._command.accepted(timeout=self._plan.timeout)
        except DeviceError:
            self._record.set_release_time(None)
            raise
        except (ConnectionError, TimeoutError) as error:
            if not error.maybe_executed:
                self._record.set_release_time(None)
            raise
        commanded_at, accepted_at = self._command.commanded_at, self._command.answered_at
        assert commanded_at is not None
        assert accepted_at is not None
        # Android replies so to a start for now too, which then proves nothing.
        scheduled = reply.status == DeviceStatus.SCHEDULED_RECORDING_ACCEPTED and self._at is not None
        meaning = answer_meaning(reply.dialect, reply.status, scheduled=self._at is not None)
        seen: tuple[RecordingReport, ...] = ()
        if reply.isRecording:
            self._record.learn(reply)
        recording = reply.status == DeviceStatus.RECORDING
        # A device that records already replies "recording" to any start, also to one far ahead of its time.
        early = recording and self._due is not None and accepted_at < self._due - _SHORT_LEAD
        if early and self._record.idle is not None:
            seen = (self._record.idle,)
        if not scheduled and not recording:
            reply, seen = await self._record.confirm(self._plan.timeout)
        return StartReport(
            commanded_at,
            accepted_at,
            reply.status,
            scheduled_for=self._at if scheduled else None,
            meaning=meaning,
            seen=seen,
            first_frame=_device_moment(reply.firstFrameAt, reply.firstFrameBound),
            already_recording=early,
            started_by_other=early and not self._is_due_by_device_clock(reply.timestamp),
        )

    def _is_due_by_device_clock(self, device_time: float | None) -> bool:
        """Return whether the device's own clock, which may be ahead, can have started the recording."""
        return self._at is None or device_time is None or device_time > self._at - _SHORT_LEAD

    async def aclose(self) -> None:
        """Close the connection; a start that was sent is not cancelled by this."""
        await self._command.aclose()


def _device_moment(at: float | None, bound: float | None) -> DeviceMoment | None:
    if at is None:
        return None
    return DeviceMoment(at, bound if bound is not None and bound >= 0 else None)


def _first_frame(reply: StatusResponse) -> _FirstFrame | None:
    moment = _device_moment(reply.firstFrameAt, reply.firstFrameBound) if reply.isRecording else None
    if moment is None or reply.timestamp is None:
        return None
    return _FirstFrame(moment.time, moment.bound or 0.0, reply.timestamp - WALL_CLOCK.elapsed())


def _files(reply: StopRecordingResponse) -> tuple[MediaFile, ...]:
    """Return the recording a stop names; a size of 0 means that the device packs it later."""
    name = reply.fileName or reply.fileId
    return (MediaFile(name, reply.fileSize or None, reply.fileId or ""),) if name else ()
