"""A camera in memory that follows a script: what it does at each step, well or badly, is up to the test."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from asynccam.errors import DeviceError, TransferError
from asynccam.model.camera import Camera
from asynccam.model.digest import SHA256, DigestName, digest_fields
from asynccam.model.features import (
    AnswerMeaning,
    ArmedStart,
    DeviceClock,
    FeatureKey,
    Files,
    Progress,
    Record,
    RecordPlan,
    ScheduledStart,
    Snapshot,
    StartReport,
    StopReport,
)
from asynccam.model.info import CameraInfo, CameraState, CameraStatus, ClockOffset, LocalFile, MediaFile
from asynccam.wall_clock import unix_now
from tests.support.digests import digest_of

Behaviour = Callable[[], Awaitable[None]]


async def hang() -> None:
    await asyncio.Event().wait()


def refuse(error: Exception) -> Behaviour:
    async def behaviour() -> None:
        raise error

    return behaviour


def late(seconds: float) -> Behaviour:
    async def behaviour() -> None:
        await asyncio.sleep(seconds)

    return behaviour


def in_turn(*behaviours: Behaviour | None) -> Behaviour:
    """One behaviour for each call; the last one from then on."""
    calls = iter(behaviours)
    current: Behaviour | None = None

    async def behaviour() -> None:
        nonlocal current
        current = next(calls, current)
        if current is not None:
            await current()

    return behaviour


class ScriptedCamera(Camera):
    """Records what it is told and does what its script says.

    Args:
        name: Its name and serial.
        script: What happens at ``clock arm release accepted disarm stop status list download close``; by
            default all is well.
        scheduled: Whether it starts by its own clock.
        stubborn: Whether a scheduled start fires even after a stop.
        clock: Its clock's offset, or None for a camera without one.
        contents: Its files by name.
        local: Whether it records into the plan's directory.
        on_call: Awaited at every call, with the camera and the step.
        meaning: What its answer to a start means.
        opens: Seconds from the start, or from its schedule, to its first frame.
    """

    def __init__(
        self,
        name: str,
        *,
        script: Mapping[str, Behaviour] | None = None,
        scheduled: bool = False,
        stubborn: bool = False,
        clock: float | None = None,
        contents: Mapping[str, bytes] | None = None,
        local: bool = False,
        on_call: Callable[["ScriptedCamera", str], Awaitable[None]] | None = None,
        meaning: AnswerMeaning = AnswerMeaning.HEARD,
        opens: float = 0.0,
    ) -> None:
        self._info = CameraInfo(id=f"scripted://{name}", system="scripted", name=name, serial=name)
        self.script = dict(script or {})
        self.contents = {"video.mp4": name.encode() * 100} if contents is None else contents
        self.stubborn = stubborn
        self.local = local
        self.offset = clock
        self.meaning = meaning
        self.opens = opens
        self.first_frame_at = 0.0
        self.calls: list[str] = []
        self.recording = False
        self.held = 0
        self.released_with: list[float | None] = []
        self.released_at: list[float] = []
        self.closed = 0
        self.plan: RecordPlan | None = None
        self.timer: asyncio.TimerHandle | None = None
        self._on_call = on_call
        features: dict[FeatureKey[Any], object] = {Record: self}
        if not local:
            features[Files] = self
        if scheduled:
            features[ScheduledStart] = self
        if clock is not None:
            features[DeviceClock] = self
        self._features = MappingProxyType(features)

    async def act(self, step: str) -> None:
        self.calls.append(step)
        if self._on_call is not None:
            await self._on_call(self, step)
        behaviour = self.script.get(step)
        if behaviour is not None:
            await behaviour()

    # -- Camera ---------------------------------------------------------------------------------

    @property
    def info(self) -> CameraInfo:
        return self._info

    @property
    def features(self) -> Mapping[FeatureKey[Any], object]:
        return self._features

    async def status(self) -> CameraStatus:
        await self.act("status")
        return CameraStatus(CameraState.RECORDING if self.recording else CameraState.READY)

    async def aclose(self) -> None:
        await self.act("close")
        self.closed += 1

    # -- features -------------------------------------------------------------------------------

    @property
    def lead(self) -> float:
        return 0.1

    async def measure_clock(self, *, samples: int = 8) -> ClockOffset:
        await self.act("clock")
        assert self.offset is not None
        return ClockOffset(self.offset, 0.001, 0.002, samples, unix_now())

    async def arm(self, plan: RecordPlan) -> ArmedStart:
        await self.act("arm")
        self.plan = plan
        self.held += 1
        return _Armed(self)

    async def stop(self, *, timeout: float = 60.0) -> StopReport:
        began = unix_now()
        await self.act("stop")
        if self.timer is not None and not self.stubborn:
            self.timer.cancel()
        if not self.recording:
            raise DeviceError(f"{self.id} does not record", status="error")
        self.recording = False
        return StopReport(began, unix_now(), "recording_stopped", self._files())

    async def list_files(self) -> tuple[MediaFile, ...]:
        await self.act("list")
        old = MediaFile("yesterday.mp4", size=3, created=unix_now() - 86_400)
        return (old, *self._files())

    async def download(
        self,
        file: MediaFile | str,
        directory: Path,
        *,
        progress: Progress | None = None,
        digest: DigestName | None = SHA256,
    ) -> LocalFile:
        name = file if isinstance(file, str) else file.name
        data = self.contents[name]
        if progress is not None:
            progress(0, len(data))
        await self.act("download")
        path = directory / Path(name).name
        await asyncio.to_thread(path.write_bytes, data)
        if progress is not None:
            progress(len(data), len(data))
        fields = digest_fields(digest, digest_of(digest, data))
        return LocalFile(path, len(data), source=name, seconds=0.01, **fields)

    def _files(self) -> tuple[MediaFile, ...]:
        created = unix_now() + (self.offset or 0.0)
        if not self.local:
            return tuple(MediaFile(name, len(data), created=created) for name, data in self.contents.items())
        assert self.plan is not None
        return tuple(MediaFile(name, path=self.plan.directory / name) for name in self.contents)


class _Armed:
    def __init__(self, camera: ScriptedCamera) -> None:
        self._camera = camera
        self._open = True
        self._at: float | None = None
        self._commanded_at = 0.0

    def release(self, at: float | None) -> None:
        camera = self._camera
        camera.calls.append("release")
        camera.released_with.append(at)
        camera.released_at.append(unix_now())
        self._at, self._commanded_at = at, unix_now()
        delay = 0.0 if at is None else max(0.0, at - unix_now() - (camera.offset or 0.0))
        if "release" in camera.script:
            raise DeviceError("nothing goes out")
        camera.timer = asyncio.get_running_loop().call_later(delay + camera.opens, self._begin)

    async def accepted(self) -> StartReport:
        try:
            await self._camera.act("accepted")
        except DeviceError:
            assert self._camera.timer is not None
            self._camera.timer.cancel()
            self._camera.recording = False
            raise
        meaning = self._camera.meaning
        return StartReport(self._commanded_at, unix_now(), "recording", self._at, meaning=meaning)

    async def aclose(self) -> None:
        if self._open:
            self._open = False
            self._camera.held -= 1
            await self._camera.act("disarm")

    def _begin(self) -> None:
        self._camera.recording = True
        self._camera.first_frame_at = unix_now()
        if self._camera.local:
            assert self._camera.plan is not None
            for name, data in self._camera.contents.items():
                (self._camera.plan.directory / name).write_bytes(data)


def broken_transfer(part: Path, received: int, expected: int) -> Behaviour:
    return refuse(TransferError("the device went away", part=part, received=received, expected=expected))


class ScriptedStillCamera(Camera):
    """Takes pictures and no video.

    Args:
        name: Its name.
        script: What happens at ``status snapshot``; by default all is well.
        state: What it says of itself.
        content: Bytes of its pictures, or None for some that are none.
    """

    def __init__(
        self,
        name: str,
        *,
        script: Mapping[str, Behaviour] | None = None,
        state: CameraState = CameraState.READY,
        content: bytes | None = None,
    ) -> None:
        self._info = CameraInfo(id=f"scripted://{name}", system="scripted", name=name)
        self._content = content
        self.script = dict(script or {})
        self.state = state
        self.calls: list[str] = []
        self.asked_at: list[float] = []

    @property
    def info(self) -> CameraInfo:
        return self._info

    @property
    def features(self) -> Mapping[FeatureKey[Any], object]:
        return {Snapshot: self}

    async def status(self) -> CameraStatus:
        await self._act("status")
        return CameraStatus(self.state, "so it says")

    async def snapshot(self, directory: Path) -> LocalFile:
        self.asked_at.append(unix_now())
        await self._act("snapshot")
        data = self._info.name.encode() * 10 if self._content is None else self._content
        path = directory / f"{self._info.name}.jpg"
        await asyncio.to_thread(path.write_bytes, data)
        return LocalFile(path, len(data), hashlib.sha256(data).hexdigest(), f"{self._info.name}.jpg", 0.01)

    async def aclose(self) -> None:
        self.calls.append("close")

    async def _act(self, step: str) -> None:
        self.calls.append(step)
        if step in self.script:
            await self.script[step]()
