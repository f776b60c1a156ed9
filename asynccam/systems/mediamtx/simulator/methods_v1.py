"""The methods both generations of a simulated service have. See docs/protocols/mediamtx.md."""

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from asynccam.errors import AsynccamError
from asynccam.systems.mediamtx.simulator.calls import Call, Method
from asynccam.systems.mediamtx.simulator.cameras import SimCamera, told_time
from asynccam.systems.mediamtx.simulator.errors import Refusal, Why
from asynccam.systems.mediamtx.simulator.service import Service
from asynccam.systems.mediamtx.simulator.store import KINDS, RECORDINGS, SNAPSHOTS, StoredFile
from asynccam.wall_clock import unix_now

_FORMATS: Final = ("mp4", "fmp4")
_PAGE: Final = 100
_LARGEST_PAGE: Final = 1000
_DAY: Final = 86400.0
_GIGABYTE: Final = 1e9
_ROLES: Final = {
    "ping": "viewer",
    "get_camera_list": "viewer",
    "get_camera_status": "viewer",
    "get_camera_capabilities": "viewer",
    "get_streams": "viewer",
    "list_recordings": "viewer",
    "list_snapshots": "viewer",
    "get_recording_info": "viewer",
    "get_snapshot_info": "viewer",
    "take_snapshot": "operator",
    "start_recording": "operator",
    "stop_recording": "operator",
    "delete_recording": "operator",
    "delete_snapshot": "operator",
    "get_metrics": "admin",
    "get_status": "admin",
    "get_server_info": "admin",
    "get_storage_info": "admin",
    "set_retention_policy": "admin",
    "cleanup_old_files": "admin",
}
_CAMERA: Final = re.compile(r"camera\d+")


class Methods:
    """Answers calls for a service.

    Args:
        service: What they are about.
    """

    def __init__(self, service: Service) -> None:
        self.service = service

    def table(self) -> dict[str, Method]:
        """Every method but ``authenticate``, with the role it takes."""
        table = self.table_of(_ROLES)
        if self.service.ways.generation == 2:
            table["ping"] = Method(None, self.ping)
        return table

    def table_of(self, roles: Mapping[str, str]) -> dict[str, Method]:
        """Methods of this class by their names."""
        return {name: Method(role, getattr(self, name)) for name, role in roles.items()}

    def camera(self, call: Call) -> SimCamera:
        """The camera a call is about."""
        camera = self._find(call)
        if camera is None:
            device = call.params["device"]
            raise Refusal(Why.CAMERA, {"resource": "camera", "id": device})
        return camera

    def _find(self, call: Call) -> SimCamera | None:
        device = call.text("device")
        if self.service.ways.generation == 2 and not _CAMERA.fullmatch(device):
            raise Refusal(Why.PARAMS, detail="device must be camera[0-9]+")
        return self.service.cameras.get(device)

    # -- cameras ----------------------------------------------------------------------------------

    async def ping(self, call: Call) -> Any:
        """Say that the service is there."""
        return "pong"

    async def get_camera_list(self, call: Call) -> Any:
        """All cameras."""
        cameras = [camera.told(self.service.host) for camera in self.service.cameras.values()]
        connected = sum(camera["status"] == "CONNECTED" for camera in cameras)
        return {"cameras": cameras, "total": len(cameras), "connected": connected}

    async def get_camera_status(self, call: Call) -> Any:
        """One camera; generation 1 says of one it does not know that it is away."""
        camera = self._find(call) if self.service.ways.generation == 1 else self.camera(call)
        if camera is None:
            nothing = {"name": "", "resolution": "", "fps": 0, "streams": {}}
            return {"device": call.params["device"], "status": "DISCONNECTED", **nothing}
        return {
            **camera.told(self.service.host),
            "metrics": camera.metrics(self.service.ways, self.service.uptime),
            "capabilities": camera.capabilities(),
        }

    async def get_camera_capabilities(self, call: Call) -> Any:
        """What one camera can do."""
        camera = self.camera(call)
        return {"device": camera.device, **camera.capabilities(), "fps_options": [camera.fps]}

    async def get_streams(self, call: Call) -> Any:
        """The media server's paths."""
        return [
            {
                "name": camera.stream,
                "source": camera.streams(self.service.host)["rtsp"],
                "ready": camera.stream_ready.is_set(),
                "readers": camera.readers,
                "bytes_sent": 0,
            }
            for camera in self.service.cameras.values()
        ]

    # -- pictures and recordings ------------------------------------------------------------------

    async def take_snapshot(self, call: Call) -> Any:
        """Take a picture; in generation 1 a failure is a result."""
        camera = self.camera(call)
        store = self.service.store
        given = "filename" in call.params
        name = call.filename() if given else store.free_name(f"snapshot_{camera.stream}", ".jpg")
        if given and not name.lower().endswith((".jpg", ".jpeg")):
            name = f"{name}.jpg"
        told: dict[str, Any] = {"device": camera.device, "filename": name}
        try:
            await self.service.stream_of(camera)
            try:
                file = await store.picture(name)
            except AsynccamError as error:
                raise Refusal(Why.MEDIA, {"reason": str(error)}) from error
        except Refusal as refusal:
            if self.service.ways.generation != 1:
                raise
            now = told_time(unix_now(), self.service.ways)
            return {**told, "status": "FAILED", "timestamp": now, "file_size": 0, "error": str(refusal)}
        told["status"] = "completed" if self.service.ways.generation == 1 else "SUCCESS"
        told["timestamp"] = told_time(file.modified, self.service.ways)
        told["file_size"] = file.size
        told["file_path"] = f"/opt/camera-service/snapshots/{name}"
        self.service.tell_in_order("snapshot.taken", told, call.afterwards)
        return told

    async def start_recording(self, call: Call) -> Any:
        """Start a recording."""
        camera = self.camera(call)
        duration = call.number("duration")
        if duration is not None and duration <= 0:
            raise Refusal(Why.PARAMS, detail="duration must be above 0")
        form = call.params.get("format", _FORMATS[0])
        if form not in _FORMATS:
            raise Refusal(Why.UNSUPPORTED, {"format": form})
        recording = await self.service.begin(camera, duration, form)
        told = self.service.told_recording(camera, recording)
        self.service.tell_in_order("recording.start", told, call.afterwards)
        return told

    async def stop_recording(self, call: Call) -> Any:
        """Stop a recording."""
        ended = await self.service.end(self.camera(call))
        self.service.tell_in_order("recording.stop", ended, call.afterwards)
        return ended

    # -- files ------------------------------------------------------------------------------------

    async def list_recordings(self, call: Call) -> Any:
        """A page of recordings."""
        return self._page(call, RECORDINGS)

    async def list_snapshots(self, call: Call) -> Any:
        """A page of pictures."""
        return self._page(call, SNAPSHOTS)

    async def get_recording_info(self, call: Call) -> Any:
        """One recording."""
        return self._info(call, RECORDINGS)

    async def get_snapshot_info(self, call: Call) -> Any:
        """One picture."""
        return self._info(call, SNAPSHOTS)

    async def delete_recording(self, call: Call) -> Any:
        """Delete a recording."""
        return await self._delete(call, RECORDINGS)

    async def delete_snapshot(self, call: Call) -> Any:
        """Delete a picture."""
        return await self._delete(call, SNAPSHOTS)

    def _page(self, call: Call, kind: str) -> dict[str, Any]:
        newer = self.service.ways.generation == 2
        limit = call.count("limit", _PAGE, 1, _LARGEST_PAGE if newer else None)
        offset = call.count("offset", 0, 0)
        files = list(self.service.store.files[kind].values())
        if newer:
            files.reverse()
        page = [self._told_file(file, kind) for file in files[offset : offset + limit]]
        return {"files": page, "total": len(files), "limit": limit, "offset": offset}

    def _info(self, call: Call, kind: str) -> dict[str, Any]:
        name = call.filename()
        file = self.service.store.files[kind].get(name)
        if file is None:
            raise Refusal(Why.FILE, {"resource": kind.removesuffix("s"), "id": name})
        return self._told_file(file, kind)

    async def _delete(self, call: Call, kind: str) -> dict[str, Any]:
        name = call.filename()
        if await self.service.store.delete(kind, name) is None:
            raise Refusal(Why.FILE, {"resource": kind.removesuffix("s"), "id": name})
        return {"filename": name, "deleted": True, "message": f"{name} was deleted"}

    def _told_file(self, file: StoredFile, kind: str) -> dict[str, Any]:
        return {
            "filename": file.name,
            "file_size": file.size,
            "modified_time": told_time(file.modified, self.service.ways),
            "download_url": f"/files/{kind}/{quote(file.name, safe='')}",
        }

    # -- the service ------------------------------------------------------------------------------

    async def get_metrics(self, call: Call) -> Any:
        """How busy it is."""
        errors = self.service.errors / max(self.service.requests, 1)
        return {
            "active_connections": len(self.service.callers),
            "total_requests": self.service.requests,
            "average_response_time": 0.0,
            "error_rate": round(errors, 4),
            "memory_usage": 0.0,
            "cpu_usage": 0.0,
        }

    async def get_status(self, call: Call) -> Any:
        """How it does."""
        parts = {"websocket_server": "running", "camera_monitor": "running", "mediamtx": "running"}
        uptime = self.service.uptime
        return {"status": "healthy", "uptime": uptime, "version": self._version, "components": parts}

    async def get_server_info(self, call: Call) -> Any:
        """What it is."""
        return {
            "name": "Simulated MediaMTX Camera Service",
            "version": self._version,
            "capabilities": ["snapshots", "recordings", "streaming"],
            "supported_formats": ["mp4", "jpg"],
            "max_cameras": 10,
        }

    @property
    def _version(self) -> str:
        return f"{self.service.ways.generation}.0.0"

    async def get_storage_info(self, call: Call) -> Any:
        """How full its disk is."""
        total, used, free = await self.service.store.space()
        files = self.service.store.files
        return {
            "total_space": total,
            "used_space": used,
            "available_space": free,
            "usage_percentage": round(100 * used / total, 1),
            "recordings_size": sum(file.size for file in files[RECORDINGS].values()),
            "snapshots_size": sum(file.size for file in files[SNAPSHOTS].values()),
            "low_space_warning": self.service.faults.storage_full,
        }

    async def set_retention_policy(self, call: Call) -> Any:
        """Say what is to be deleted."""
        kind, enabled = call.params.get("policy_type"), call.params.get("enabled")
        if kind not in ("age", "size", "manual") or not isinstance(enabled, bool):
            raise Refusal(Why.PARAMS, detail="policy_type is age, size or manual, enabled true or false")
        policy: dict[str, Any] = {"policy_type": kind, "enabled": enabled}
        needed = {"age": "max_age_days", "size": "max_size_gb"}.get(kind)
        if needed is not None:
            value = call.number(needed)
            if value is None or value <= 0:
                raise Refusal(Why.PARAMS, detail=f"{kind} needs {needed} above 0")
            policy[needed] = value
        self.service.retention = policy
        return {**policy, "message": "Retention policy was set"}

    async def cleanup_old_files(self, call: Call) -> Any:
        """Delete what the policy says."""
        store, policy = self.service.store, self.service.retention
        every = [(file, kind) for kind in KINDS for file in store.files[kind].values()]
        every.sort(key=lambda pair: (pair[0].began, pair[0].modified))
        doomed: list[tuple[StoredFile, str]] = []
        if policy["enabled"] and policy["policy_type"] == "age":
            limit = policy["max_age_days"] * _DAY
            doomed = [pair for pair in every if pair[0].age() > limit]
        elif policy["enabled"] and policy["policy_type"] == "size":
            excess = sum(file.size for file, _ in every) - policy["max_size_gb"] * _GIGABYTE
            for file, kind in every:
                if excess <= 0:
                    break
                doomed.append((file, kind))
                excess -= file.size
        for file, kind in doomed:
            await store.delete(kind, file.name)
        freed = sum(file.size for file, _ in doomed)
        return {"files_deleted": len(doomed), "space_freed": freed, "cleanup_executed": True}
