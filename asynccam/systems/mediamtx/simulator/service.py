"""State of a simulated service, without sockets: cameras, recordings, clients and notifications."""

import asyncio
import itertools
import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from asynccam.errors import AsynccamError, RecordingError, TimeoutError, UsageError
from asynccam.runtime.tasks import TaskScope, finish
from asynccam.runtime.timing import deadline
from asynccam.systems.mediamtx.simulator.access import Credential
from asynccam.systems.mediamtx.simulator.behavior import ServiceFaults, ServiceWays
from asynccam.systems.mediamtx.simulator.cameras import (
    FinishRecording,
    SimCamera,
    SimRecording,
    time_value,
)
from asynccam.systems.mediamtx.simulator.errors import RefusalReason, RefusedCall
from asynccam.systems.mediamtx.simulator.store import RECORDINGS, FileStore, ServedFile
from asynccam.wall_clock import WALL_CLOCK

_GENERATION_1_METHODS: Final = {
    "camera.connected": "camera_status_update",
    "camera.disconnected": "camera_status_update",
    "camera.status_change": "camera_status_update",
    "recording.start": "recording_status_update",
    "recording.stop": "recording_status_update",
    "recording.error": "recording_status_update",
}
"""Topic -> its notification in generation 1."""
_GENERATION_1_RECORDING: Final = ("device", "status", "filename", "duration")


@dataclass(slots=True, eq=False)
class ClientSession:
    """State of one connected client."""

    number: int
    post: Callable[[Any], None]  # queues a document for the client
    credential: Credential | None = None
    locked: bool = False  # whether it cannot sign in any more
    topics: dict[str, dict[str, Any]] = field(default_factory=dict)  # with their filters
    recent: deque[float] = field(default_factory=deque)  # monotonic times of its last calls


class SimulatedService:
    """Cameras by device, clients (newest last), external streams by URL, and counters of a service.

    ``host`` appears in stream URLs. Files and tasks, ``store`` and ``scope``, are set by `open`.
    """

    def __init__(self, ways: ServiceWays, faults: ServiceFaults, host: str) -> None:
        self.ways = ways
        self.faults = faults
        self.host = host
        self.cameras: dict[str, SimCamera] = {}
        self.clients: list[ClientSession] = []
        self.external: dict[str, dict[str, Any]] = {}
        self.retention: dict[str, Any] = {"policy_type": "manual", "enabled": False}
        self.requests = 0
        self.errors = 0

    @property
    def uptime(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._began

    def open(self, store: FileStore) -> None:
        """Start with these files."""
        self.store = store
        self.scope = TaskScope("simulated service")
        self._began = time.monotonic()

    async def aclose(self) -> None:
        """Cancel running calls, and finish the files of running recordings."""
        await self.scope.aclose()
        for camera in self.cameras.values():
            recording, camera.recording = camera.recording, None
            camera.starting = camera.stuck = False
            camera.timers.clear()
            if recording is not None:
                await finish(recording.finish())

    # -- cameras ----------------------------------------------------------------------------------

    def add_camera(self, name: str, device: str) -> SimCamera:
        """Add a camera and notify clients; raise `UsageError` if there is one of this device."""
        if not device:
            prefix = "/dev/video" if self.ways.generation == 1 else "camera"
            names = (f"{prefix}{index}" for index in itertools.count())
            device = next(name for name in names if name not in self.cameras)
        if device in self.cameras:
            raise UsageError(f"there is a camera {device} already")
        stream = device.rpartition("/")[2].replace("video", "camera")
        camera = SimCamera(device, stream, name or f"Simulated camera {stream.removeprefix('camera')}")
        camera.stream_ready.set()
        self.cameras[device] = camera
        self.notify("camera.connected", camera.summary(self.host))
        return camera

    def remove_camera(self, device: str) -> None:
        """Remove a camera and notify clients; its recording ends. Raise `UsageError` if there is none."""
        camera = self.cameras.pop(device, None)
        if camera is None:
            raise UsageError(f"there is no camera {device}")
        camera.status = "DISCONNECTED"
        if camera.recording is not None:
            self.scope.spawn(self._abort_recording(camera), name=f"end of {device}")
        self.notify("camera.disconnected", camera.summary(self.host))

    async def _abort_recording(self, camera: SimCamera) -> None:
        status = await self.stop_recording(camera)
        self.notify("recording.error", {**status, "status": "ERROR"})

    # -- recordings -------------------------------------------------------------------------------

    async def start_recording(
        self, camera: SimCamera, duration: float | None, container: str
    ) -> SimRecording:
        """Start a recording, or raise `RefusedCall`."""
        if camera.stuck or camera.starting or camera.recording is not None:
            raise RefusedCall(RefusalReason.RECORDING, {"device": camera.device})
        camera.starting = True
        try:
            await self.wait_for_stream(camera)
            name = self.store.free_name(camera.stream, ".mp4")
            path = self.store.path(RECORDINGS, name)
            end = await self._start_recorder(camera, path)
        except AsynccamError as error:
            raise RefusedCall(RefusalReason.MEDIA, {"reason": str(error)}) from error
        finally:
            camera.starting = False
        began, elapsed = WALL_CLOCK.pair()
        recording = SimRecording(str(uuid.uuid4()), name, container, began, elapsed, duration, end)
        camera.recording = recording
        if duration is not None:
            timer = self.scope.spawn(self._stop_after(camera, duration), name=f"timer of {name}")
            camera.timers.add(timer)
            timer.add_done_callback(camera.timers.discard)
        return recording

    async def _start_recorder(self, camera: SimCamera, path: Path) -> FinishRecording:
        delay = self.faults.recorder_delay
        if not delay:
            return await self.store.record(camera, path)

        async def start_later() -> FinishRecording:
            await asyncio.sleep(delay)
            return await self.store.record(camera, path)

        async def end() -> None:
            starting.cancel()
            await asyncio.wait({starting})
            if starting.cancelled():
                raise RecordingError("the recording was stopped before its recorder had started")
            await starting.result()()

        starting = self.scope.spawn(start_later(), name="late recorder")
        return end

    async def wait_for_stream(self, camera: SimCamera) -> None:
        """Wait for a camera's stream; raise `RefusedCall` if it fails or the disk is full."""
        if self.faults.storage_full:
            raise RefusedCall(RefusalReason.STORAGE)
        if camera.fails:
            raise RefusedCall(RefusalReason.MEDIA, {"device": camera.device})
        try:
            async with deadline(self.ways.stream_wait, f"stream of {camera.device}"):
                await camera.stream_ready.wait()
        except TimeoutError:
            data = {"device": camera.device}
            raise RefusedCall(RefusalReason.MEDIA, data, detail="Stream is not ready") from None

    async def stop_recording(self, camera: SimCamera) -> dict[str, Any]:
        """Stop a recording and return its status, or raise `RefusedCall`."""
        recording, camera.recording = camera.recording, None
        if recording is None:
            data = {"device": camera.device}
            raise RefusedCall(RefusalReason.STATE, data, detail="No recording to stop")
        if not self.ways.stuck_after_timed:
            for timer in camera.timers - {asyncio.current_task()}:
                timer.cancel()
        # On the scale of its start: the time of day may have been set since.
        ended = recording.began + (WALL_CLOCK.elapsed() - recording.began_elapsed)
        try:
            await finish(recording.finish())
            file = await self.store.add(RECORDINGS, recording.filename)
        except AsynccamError as error:
            raise RefusedCall(RefusalReason.MEDIA, {"reason": str(error)}) from error
        return self.recording_status(camera, recording, ended, file)

    def recording_status(
        self,
        camera: SimCamera,
        recording: SimRecording,
        ended: float | None = None,
        file: ServedFile | None = None,
    ) -> dict[str, Any]:
        """Return a recording's status as results and notifications hold it."""
        status: dict[str, Any] = {
            "device": camera.device,
            "session_id": recording.session_id,
            "filename": recording.filename,
            "status": "STARTED",
            "start_time": time_value(recording.began, self.ways),
            "duration": recording.duration,
            "format": recording.container,
        }
        if ended is not None and file is not None:
            status["status"] = "STOPPED"
            status["end_time"] = time_value(ended, self.ways)
            status["duration"] = round(ended - recording.began, 3)
            status["file_size"] = file.size
            if self.ways.generation == 1:
                status["session_id"] = None
        return status

    async def _stop_after(self, camera: SimCamera, seconds: float) -> None:
        await asyncio.sleep(seconds)
        if camera.recording is None:
            return
        camera.stuck = self.ways.stuck_after_timed
        self.notify("recording.stop", await self.stop_recording(camera))

    # -- notifications ----------------------------------------------------------------------------

    def notify(self, topic: str, payload: dict[str, Any]) -> None:
        """Send a notification to all clients that receive the topic."""
        method = _GENERATION_1_METHODS.get(topic)
        if self.ways.notices == "topic":
            document: dict[str, Any] = {"jsonrpc": "2.0", "method": topic, "params": payload}
        elif self.ways.notices == "wrapped":
            wrapped = {"topic": topic, "data": payload}
            document = {"jsonrpc": "2.0", "method": "event", "params": wrapped}
        elif method is not None:
            if method == "recording_status_update":
                payload = {name: payload[name] for name in _GENERATION_1_RECORDING if name in payload}
            document = {"jsonrpc": "2.0", "method": method, "params": payload}
        else:
            return
        for client in self.clients:
            if self.ways.notices_to_all or _is_subscribed(client, topic, payload):
                client.post(document)

    def notify_in_order(self, topic: str, payload: dict[str, Any], after: list[Callable[[], None]]) -> None:
        """Notify before or after the response to the call, depending on the generation."""
        if self.ways.notice_first:
            self.notify(topic, payload)
        else:
            after.append(lambda: self.notify(topic, payload))


def _is_subscribed(client: ClientSession, topic: str, payload: dict[str, Any]) -> bool:
    filters = client.topics.get(topic)
    return filters is not None and all(payload.get(name) == value for name, value in filters.items())
