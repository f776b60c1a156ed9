"""The inside of a simulated service, without sockets: cameras, recordings, and who is told of them."""

import asyncio
import time
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from asynccam.errors import AsynccamError, TimeoutError, UsageError
from asynccam.runtime.tasks import TaskScope, finish
from asynccam.runtime.timing import deadline
from asynccam.systems.mediamtx.simulator.behavior import ServiceFaults, ServiceWays
from asynccam.systems.mediamtx.simulator.calls import Caller
from asynccam.systems.mediamtx.simulator.cameras import (
    Filming,
    LateFilming,
    SimCamera,
    SimRecording,
    device_name,
    told_time,
)
from asynccam.systems.mediamtx.simulator.errors import Refusal, Why
from asynccam.systems.mediamtx.simulator.store import RECORDINGS, Store, StoredFile
from asynccam.wall_clock import WALL_CLOCK

_CLASSIC: Final = {
    "camera.connected": "camera_status_update",
    "camera.disconnected": "camera_status_update",
    "camera.status_change": "camera_status_update",
    "recording.start": "recording_status_update",
    "recording.stop": "recording_status_update",
    "recording.error": "recording_status_update",
}
"""Topics that have a notification in generation 1 too."""


class Service:
    """What a service knows and does.

    Args:
        ways: How it behaves.
        faults: How it misbehaves.
        host: Stands in the addresses of streams.

    Attributes:
        cameras: By device.
        callers: Connections open now, the newest last.
        external: External streams of generation 2, by URL.
        retention: The last retention policy that was set.
        requests: Requests it has read.
        errors: Requests it has refused.
    """

    def __init__(self, ways: ServiceWays, faults: ServiceFaults, host: str) -> None:
        self.ways = ways
        self.faults = faults
        self.host = host
        self.cameras: dict[str, SimCamera] = {}
        self.callers: list[Caller] = []
        self.external: dict[str, dict[str, Any]] = {}
        self.retention: dict[str, Any] = {"policy_type": "manual", "enabled": False}
        self._began = time.monotonic()
        self.requests = 0
        self.errors = 0
        self.scope = TaskScope("simulated service")
        self._store: Store | None = None

    @property
    def store(self) -> Store:
        """Its disk."""
        assert self._store is not None
        return self._store

    @property
    def uptime(self) -> float:
        """Seconds since it started."""
        return time.monotonic() - self._began

    def open(self, store: Store) -> None:
        """Start with this disk."""
        self._store = store
        self.scope = TaskScope("simulated service")
        self._began = time.monotonic()

    async def aclose(self) -> None:
        """Break off what is under way, and finish the files of recordings that run."""
        await self.scope.aclose()
        for camera in self.cameras.values():
            recording, camera.recording = camera.recording, None
            camera.starting = camera.stuck = False
            camera.timers.clear()
            if recording is not None:
                await finish(recording.filming.finish())

    # -- cameras ----------------------------------------------------------------------------------

    def add_camera(self, name: str, device: str) -> SimCamera:
        """Plug a camera in.

        Raises:
            UsageError: There is one of this device.
        """
        if not device:
            number = 0
            while (device := device_name(number, self.ways.generation)) in self.cameras:
                number += 1
        if device in self.cameras:
            raise UsageError(f"there is a camera {device} already")
        stream = device.rpartition("/")[2].replace("video", "camera")
        camera = SimCamera(device, stream, name or f"Simulated camera {stream.removeprefix('camera')}")
        camera.stream_ready.set()
        self.cameras[device] = camera
        self.tell("camera.connected", camera.told(self.host))
        return camera

    def remove_camera(self, device: str) -> None:
        """Pull a camera out; a recording of its ends with what it has.

        Raises:
            UsageError: There is none.
        """
        camera = self.cameras.pop(device, None)
        if camera is None:
            raise UsageError(f"there is no camera {device}")
        camera.status = "DISCONNECTED"
        if camera.recording is not None:
            self.scope.spawn(self._cut_off(camera), name=f"end of {device}")
        self.tell("camera.disconnected", camera.told(self.host))

    async def _cut_off(self, camera: SimCamera) -> None:
        ended = await self.end(camera)
        self.tell("recording.error", {**ended, "status": "ERROR"})

    # -- recordings -------------------------------------------------------------------------------

    async def begin(self, camera: SimCamera, duration: float | None, form: str) -> SimRecording:
        """Start a recording.

        Raises:
            Refusal: It records already, or cannot.
        """
        if camera.stuck or camera.starting or camera.recording is not None:
            raise Refusal(Why.RECORDING, {"device": camera.device})
        camera.starting = True
        try:
            await self.stream_of(camera)
            name = self.store.free_name(camera.stream, ".mp4")
            path = self.store.path(RECORDINGS, name)
            filming = await self._film(camera, path)
        except AsynccamError as error:
            raise Refusal(Why.MEDIA, {"reason": str(error)}) from error
        finally:
            camera.starting = False
        began, elapsed = WALL_CLOCK.pair()
        recording = SimRecording(str(uuid.uuid4()), name, path, form, began, elapsed, duration, filming)
        camera.recording = recording
        if duration is not None:
            timer = self.scope.spawn(self._time_out(camera, duration), name=f"timer of {name}")
            camera.timers.add(timer)
            timer.add_done_callback(camera.timers.discard)
        return recording

    async def _film(self, camera: SimCamera, path: Path) -> Filming:
        """Begin to film, or answer first and begin later."""
        delay = self.faults.recorder_delay
        if not delay:
            return await self.store.film(camera, path)
        return LateFilming(self.scope, delay, lambda: self.store.film(camera, path))

    async def stream_of(self, camera: SimCamera) -> None:
        """Wait until a camera's stream is up.

        Raises:
            Refusal: It is not, or the camera fails, or there is no room.
        """
        if self.faults.storage_full:
            raise Refusal(Why.STORAGE)
        if camera.fails:
            raise Refusal(Why.MEDIA, {"device": camera.device})
        try:
            async with deadline(self.ways.stream_wait, f"stream of {camera.device}"):
                await camera.stream_ready.wait()
        except TimeoutError:
            raise Refusal(Why.MEDIA, {"device": camera.device}, detail="Stream is not ready") from None

    async def end(self, camera: SimCamera) -> dict[str, Any]:
        """Stop a recording; what is told of it.

        Raises:
            Refusal: It records nothing.
        """
        recording, camera.recording = camera.recording, None
        if recording is None:
            raise Refusal(Why.STATE, {"device": camera.device}, detail="No recording to stop")
        if not self.ways.stuck_after_timed:
            for timer in camera.timers - {asyncio.current_task()}:
                timer.cancel()
        # On the scale that its begin was told on; the time of day may have been set since.
        ended = recording.began + (WALL_CLOCK.elapsed() - recording.counted_from)
        try:
            await finish(recording.filming.finish())
            file = await self.store.add(RECORDINGS, recording.filename)
        except AsynccamError as error:
            raise Refusal(Why.MEDIA, {"reason": str(error)}) from error
        return self.told_recording(camera, recording, ended, file)

    def told_recording(
        self,
        camera: SimCamera,
        recording: SimRecording,
        ended: float | None = None,
        file: StoredFile | None = None,
    ) -> dict[str, Any]:
        """A recording as answers have it."""
        told: dict[str, Any] = {
            "device": camera.device,
            "session_id": recording.session_id,
            "filename": recording.filename,
            "status": "STARTED",
            "start_time": told_time(recording.began, self.ways),
            "duration": recording.duration,
            "format": recording.format,
        }
        if ended is not None and file is not None:
            told["status"] = "STOPPED"
            told["end_time"] = told_time(ended, self.ways)
            told["duration"] = round(ended - recording.began, 3)
            told["file_size"] = file.size
            if self.ways.generation == 1:
                told["session_id"] = None
        return told

    async def _time_out(self, camera: SimCamera, seconds: float) -> None:
        await asyncio.sleep(seconds)
        if camera.recording is None:
            return
        camera.stuck = self.ways.stuck_after_timed
        ended = await self.end(camera)
        self.tell("recording.stop", ended)

    # -- who is told ------------------------------------------------------------------------------

    def tell(self, topic: str, payload: dict[str, Any]) -> None:
        """Notify whoever is to hear of a topic."""
        method = _CLASSIC.get(topic)
        if self.ways.notices == "topic":
            document: dict[str, Any] = {"jsonrpc": "2.0", "method": topic, "params": payload}
        elif self.ways.notices == "wrapped":
            wrapped = {"topic": topic, "data": payload}
            document = {"jsonrpc": "2.0", "method": "event", "params": wrapped}
        elif method is not None:
            document = {"jsonrpc": "2.0", "method": method, "params": _classic(method, payload)}
        else:
            return
        for caller in self.callers:
            if self.ways.notices_to_all or _wants(caller, topic, payload):
                caller.post(document)

    def tell_in_order(self, topic: str, payload: dict[str, Any], after: list[Callable[[], None]]) -> None:
        """Notify now or once the call is answered, as the generation does."""
        if self.ways.notice_first:
            self.tell(topic, payload)
        else:
            after.append(lambda: self.tell(topic, payload))


def _wants(caller: Caller, topic: str, payload: dict[str, Any]) -> bool:
    filters = caller.topics.get(topic)
    return filters is not None and all(payload.get(name) == value for name, value in filters.items())


def _classic(method: str, payload: dict[str, Any]) -> dict[str, Any]:
    if method != "recording_status_update":
        return payload
    return _only(payload, ("device", "status", "filename", "duration"))


def _only(payload: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: payload[name] for name in names if name in payload}
