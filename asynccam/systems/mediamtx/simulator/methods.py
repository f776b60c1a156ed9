"""Remote methods of a simulated service, and the calls they get. See docs/protocols/mediamtx.md."""

import math
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partialmethod
from typing import Any, Final
from urllib.parse import quote, urlsplit

from asynccam.errors import AsynccamError
from asynccam.systems.mediamtx.simulator.cameras import SimCamera, time_value
from asynccam.systems.mediamtx.simulator.errors import RefusalReason, RefusedCall
from asynccam.systems.mediamtx.simulator.service import ClientSession, SimulatedService
from asynccam.systems.mediamtx.simulator.store import KINDS, RECORDINGS, SNAPSHOTS, ServedFile
from asynccam.wall_clock import unix_now

TOPICS: Final = (
    "camera.connected",
    "camera.disconnected",
    "camera.status_change",
    "recording.start",
    "recording.stop",
    "recording.error",
    "snapshot.taken",
    "system.health",
    "system.startup",
    "system.shutdown",
)
_FORMATS: Final = ("mp4", "fmp4")
_PAGE_SIZE: Final = 100
_MAX_PAGE_SIZE: Final = 1000
_DAY: Final = 86400.0
_GIGABYTE: Final = 1e9
_MAX_FILENAME: Final = 200
_CAMERA: Final = re.compile(r"camera\d+")

# Method -> the role it requires. Each is handled by `ServiceMethods` with an underscore before its name.
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
_ROLES_GENERATION_2: Final = {
    "get_stream_url": "viewer",
    "get_stream_status": "viewer",
    "get_system_status": "viewer",
    "get_external_streams": "viewer",
    "subscribe_events": "viewer",
    "unsubscribe_events": "viewer",
    "get_subscription_stats": "viewer",
    "start_streaming": "operator",
    "stop_streaming": "operator",
    "discover_external_streams": "operator",
    "add_external_stream": "operator",
    "remove_external_stream": "operator",
    "set_discovery_interval": "admin",
}


@dataclass(slots=True)
class Call:
    """A request being served; ``afterwards`` is run once the response is queued."""

    client: ClientSession
    method: str
    params: dict[str, Any]
    afterwards: list[Callable[[], None]]

    def text(self, name: str) -> str:
        """Return a required string."""
        value = self.params.get(name)
        if not isinstance(value, str) or not value:
            raise _invalid(f"{name} must be a text")
        return value

    def number(self, name: str) -> float | None:
        """Return a number, None if it is not given."""
        value = self.params.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise _invalid(f"{name} must be a number")
        return value

    def count(self, name: str, default: int, least: int, most: int | None = None) -> int:
        """Return a whole number within bounds."""
        value = self.params.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise _invalid(f"{name} must be a whole number")
        if value < least or (most is not None and value > most):
            raise _invalid(f"{name} must be {least} to {most or 'any number'}")
        return value

    def filename(self) -> str:
        """Return a file name, which is not a path."""
        name = self.text("filename")
        plain = name.isprintable() and "/" not in name and "\\" not in name and not name.startswith(".")
        if not plain or len(name.encode()) > _MAX_FILENAME:
            raise _invalid("filename must be a plain file name")
        return name


Handler = Callable[[Call], Awaitable[Any]]


class ServiceMethods:
    """Handlers of all methods but ``authenticate``."""

    def __init__(self, service: SimulatedService) -> None:
        self._service = service

    def table(self) -> dict[str, tuple[str | None, Handler]]:
        """Return the methods of the service's generation: the role each requires, if any, and its handler."""
        roles: dict[str, str | None] = {**_ROLES}
        if self._service.ways.generation == 2:
            roles |= {**_ROLES_GENERATION_2, "ping": None}
        return {name: (role, getattr(self, f"_{name}")) for name, role in roles.items()}

    def _camera(self, call: Call) -> SimCamera:
        camera = self._find_camera(call)
        if camera is None:
            device = call.params["device"]
            raise RefusedCall(RefusalReason.CAMERA, {"resource": "camera", "id": device})
        return camera

    def _find_camera(self, call: Call) -> SimCamera | None:
        device = call.text("device")
        if self._service.ways.generation == 2 and not _CAMERA.fullmatch(device):
            raise _invalid("device must be camera[0-9]+")
        return self._service.cameras.get(device)

    def _time(self, seconds: float) -> Any:
        return time_value(seconds, self._service.ways)

    # -- cameras ----------------------------------------------------------------------------------

    async def _ping(self, call: Call) -> Any:
        return "pong"

    async def _get_camera_list(self, call: Call) -> Any:
        cameras = [camera.summary(self._service.host) for camera in self._service.cameras.values()]
        connected = sum(camera["status"] == "CONNECTED" for camera in cameras)
        return {"cameras": cameras, "total": len(cameras), "connected": connected}

    async def _get_camera_status(self, call: Call) -> Any:
        # Generation 1 reports an unknown camera as disconnected.
        camera = self._find_camera(call) if self._service.ways.generation == 1 else self._camera(call)
        if camera is None:
            nothing = {"name": "", "resolution": "", "fps": 0, "streams": {}}
            return {"device": call.params["device"], "status": "DISCONNECTED", **nothing}
        return {
            **camera.summary(self._service.host),
            "metrics": camera.metrics(self._service.ways, self._service.uptime),
            "capabilities": camera.capabilities(),
        }

    async def _get_camera_capabilities(self, call: Call) -> Any:
        camera = self._camera(call)
        return {"device": camera.device, **camera.capabilities(), "fps_options": [camera.fps]}

    async def _get_streams(self, call: Call) -> Any:
        return [
            {
                "name": camera.stream,
                "source": camera.streams(self._service.host)["rtsp"],
                "ready": camera.stream_ready.is_set(),
                "readers": camera.readers,
                "bytes_sent": 0,
            }
            for camera in self._service.cameras.values()
        ]

    # -- pictures and recordings ------------------------------------------------------------------

    async def _take_snapshot(self, call: Call) -> Any:
        camera = self._camera(call)
        store = self._service.store
        given = "filename" in call.params
        name = call.filename() if given else store.free_name(f"snapshot_{camera.stream}", ".jpg")
        if given and not name.lower().endswith((".jpg", ".jpeg")):
            name = f"{name}.jpg"
        result: dict[str, Any] = {"device": camera.device, "filename": name}
        try:
            await self._service.wait_for_stream(camera)
            try:
                file = await store.take_picture(name)
            except AsynccamError as error:
                raise RefusedCall(RefusalReason.MEDIA, {"reason": str(error)}) from error
        except RefusedCall as refusal:
            if self._service.ways.generation != 1:
                raise
            # In generation 1 a failure is a result.
            failure = {"status": "FAILED", "timestamp": self._time(unix_now()), "file_size": 0}
            return {**result, **failure, "error": str(refusal)}
        result["status"] = "completed" if self._service.ways.generation == 1 else "SUCCESS"
        result["timestamp"] = self._time(file.modified)
        result["file_size"] = file.size
        result["file_path"] = f"/opt/camera-service/snapshots/{name}"
        self._service.notify_in_order("snapshot.taken", result, call.afterwards)
        return result

    async def _start_recording(self, call: Call) -> Any:
        camera = self._camera(call)
        duration = call.number("duration")
        if duration is not None and duration <= 0:
            raise _invalid("duration must be above 0")
        container = call.params.get("format", _FORMATS[0])
        if container not in _FORMATS:
            raise RefusedCall(RefusalReason.UNSUPPORTED, {"format": container})
        recording = await self._service.start_recording(camera, duration, container)
        result = self._service.recording_status(camera, recording)
        self._service.notify_in_order("recording.start", result, call.afterwards)
        return result

    async def _stop_recording(self, call: Call) -> Any:
        result = await self._service.stop_recording(self._camera(call))
        self._service.notify_in_order("recording.stop", result, call.afterwards)
        return result

    # -- files ------------------------------------------------------------------------------------

    async def _page(self, call: Call, kind: str) -> dict[str, Any]:
        generation_2 = self._service.ways.generation == 2
        limit = call.count("limit", _PAGE_SIZE, 1, _MAX_PAGE_SIZE if generation_2 else None)
        offset = call.count("offset", 0, 0)
        files = list(self._service.store.files[kind].values())
        if generation_2:
            files.reverse()
        page = [self._describe(file, kind) for file in files[offset : offset + limit]]
        return {"files": page, "total": len(files), "limit": limit, "offset": offset}

    def _file(self, call: Call, kind: str) -> ServedFile:
        name = call.filename()
        file = self._service.store.files[kind].get(name)
        if file is None:
            raise RefusedCall(RefusalReason.FILE, {"resource": kind.removesuffix("s"), "id": name})
        return file

    async def _file_info(self, call: Call, kind: str) -> dict[str, Any]:
        return self._describe(self._file(call, kind), kind)

    async def _delete(self, call: Call, kind: str) -> dict[str, Any]:
        name = self._file(call, kind).name
        await self._service.store.delete(kind, name)
        return {"filename": name, "deleted": True, "message": f"{name} was deleted"}

    _list_recordings = partialmethod(_page, kind=RECORDINGS)
    _list_snapshots = partialmethod(_page, kind=SNAPSHOTS)
    _get_recording_info = partialmethod(_file_info, kind=RECORDINGS)
    _get_snapshot_info = partialmethod(_file_info, kind=SNAPSHOTS)
    _delete_recording = partialmethod(_delete, kind=RECORDINGS)
    _delete_snapshot = partialmethod(_delete, kind=SNAPSHOTS)

    def _describe(self, file: ServedFile, kind: str) -> dict[str, Any]:
        return {
            "filename": file.name,
            "file_size": file.size,
            "modified_time": self._time(file.modified),
            "download_url": f"/files/{kind}/{quote(file.name, safe='')}",
        }

    # -- the service ------------------------------------------------------------------------------

    async def _get_metrics(self, call: Call) -> Any:
        errors = self._service.errors / max(self._service.requests, 1)
        return {
            "active_connections": len(self._service.clients),
            "total_requests": self._service.requests,
            "average_response_time": 0.0,
            "error_rate": round(errors, 4),
            "memory_usage": 0.0,
            "cpu_usage": 0.0,
        }

    async def _get_status(self, call: Call) -> Any:
        parts = {"websocket_server": "running", "camera_monitor": "running", "mediamtx": "running"}
        uptime = self._service.uptime
        return {"status": "healthy", "uptime": uptime, "version": self._version, "components": parts}

    async def _get_server_info(self, call: Call) -> Any:
        return {
            "name": "Simulated MediaMTX Camera Service",
            "version": self._version,
            "capabilities": ["snapshots", "recordings", "streaming"],
            "supported_formats": ["mp4", "jpg"],
            "max_cameras": 10,
        }

    @property
    def _version(self) -> str:
        return f"{self._service.ways.generation}.0.0"

    async def _get_storage_info(self, call: Call) -> Any:
        total, used, free = await self._service.store.disk_usage()
        files = self._service.store.files
        return {
            "total_space": total,
            "used_space": used,
            "available_space": free,
            "usage_percentage": round(100 * used / total, 1),
            "recordings_size": sum(file.size for file in files[RECORDINGS].values()),
            "snapshots_size": sum(file.size for file in files[SNAPSHOTS].values()),
            "low_space_warning": self._service.faults.storage_full,
        }

    async def _set_retention_policy(self, call: Call) -> Any:
        kind, enabled = call.params.get("policy_type"), call.params.get("enabled")
        if kind not in ("age", "size", "manual") or not isinstance(enabled, bool):
            raise _invalid("policy_type is age, size or manual, enabled true or false")
        policy: dict[str, Any] = {"policy_type": kind, "enabled": enabled}
        needed = {"age": "max_age_days", "size": "max_size_gb"}.get(kind)
        if needed is not None:
            value = call.number(needed)
            if value is None or value <= 0:
                raise _invalid(f"{kind} needs {needed} above 0")
            policy[needed] = value
        self._service.retention = policy
        return {**policy, "message": "Retention policy was set"}

    async def _cleanup_old_files(self, call: Call) -> Any:
        store, policy = self._service.store, self._service.retention
        files = [(file, kind) for kind in KINDS for file in store.files[kind].values()]
        files.sort(key=lambda pair: (pair[0].began, pair[0].modified))
        expired: list[tuple[ServedFile, str]] = []
        if policy["enabled"] and policy["policy_type"] == "age":
            limit = policy["max_age_days"] * _DAY
            expired = [pair for pair in files if pair[0].age() > limit]
        elif policy["enabled"] and policy["policy_type"] == "size":
            excess = sum(file.size for file, _ in files) - policy["max_size_gb"] * _GIGABYTE
            for file, kind in files:
                if excess <= 0:
                    break
                expired.append((file, kind))
                excess -= file.size
        for file, kind in expired:
            await store.delete(kind, file.name)
        freed = sum(file.size for file, _ in expired)
        return {"files_deleted": len(expired), "space_freed": freed, "cleanup_executed": True}

    # -- generation 2: streams --------------------------------------------------------------------

    async def _get_stream_url(self, call: Call) -> Any:
        camera = self._camera(call)
        return {
            "device": camera.device,
            "stream_url": camera.streams(self._service.host)["rtsp"],
            "available": camera.stream_ready.is_set(),
            "active_consumers": camera.readers,
            "stream_status": camera.stream_status,
        }

    async def _get_stream_status(self, call: Call) -> Any:
        camera = self._camera(call)
        return {
            "device": camera.device,
            "status": camera.stream_status,
            "ready": camera.stream_ready.is_set(),
            "metrics": camera.metrics(self._service.ways, self._service.uptime),
        }

    async def _start_streaming(self, call: Call) -> Any:
        camera = self._camera(call)
        if camera.streaming:
            detail = "Stream is active already"
            raise RefusedCall(RefusalReason.STATE, {"device": camera.device}, detail=detail)
        await self._service.wait_for_stream(camera)
        camera.streaming = True
        return {
            "device": camera.device,
            "stream_name": camera.stream,
            "stream_url": camera.streams(self._service.host)["rtsp"],
            "status": "STARTED",
            "start_time": self._time(unix_now()),
        }

    async def _stop_streaming(self, call: Call) -> Any:
        camera = self._camera(call)
        if not camera.streaming:
            raise RefusedCall(RefusalReason.STATE, {"device": camera.device}, detail="No stream to stop")
        camera.streaming = False
        return {"device": camera.device, "stream_name": camera.stream, "status": "STOPPED"}

    async def _discover_external_streams(self, call: Call) -> Any:
        now = self._time(unix_now())
        return {"discovered_streams": [], "total_found": 0, "scan_timestamp": now}

    async def _add_external_stream(self, call: Call) -> Any:
        url = call.text("stream_url")
        if urlsplit(url).scheme not in ("rtsp", "rtmp", "srt", "udp", "http", "https"):
            raise _invalid("stream_url must be the address of a stream")
        if url in self._service.external:
            detail = "Stream was added already"
            raise RefusedCall(RefusalReason.STATE, {"stream_url": url}, detail=detail)
        now = self._time(unix_now())
        stream = {"url": url, "name": call.text("stream_name"), "status": "ADDED", "discovered_at": now}
        self._service.external[url] = stream
        return {"stream_url": url, "stream_name": stream["name"], "status": "ADDED", "timestamp": now}

    async def _remove_external_stream(self, call: Call) -> Any:
        url = call.text("stream_url")
        if self._service.external.pop(url, None) is None:
            data = {"resource": "stream", "id": url}
            raise RefusedCall(RefusalReason.FILE, data, detail="Stream not found")
        return {"stream_url": url, "status": "REMOVED", "timestamp": self._time(unix_now())}

    async def _get_external_streams(self, call: Call) -> Any:
        streams = list(self._service.external.values())
        return {"external_streams": streams, "total_count": len(streams)}

    async def _set_discovery_interval(self, call: Call) -> Any:
        return {"scan_interval": call.count("scan_interval", 0, 0), "status": "UPDATED"}

    # -- generation 2: events and status ----------------------------------------------------------

    async def _subscribe_events(self, call: Call) -> Any:
        topics = _known_topics(call)
        filters = call.params.get("filters")
        if filters is not None and not isinstance(filters, dict):
            raise _invalid("filters must be an object")
        call.client.topics.update(dict.fromkeys(topics, filters or {}))
        return {"subscribed": True, "topics": topics, "filters": filters}

    async def _unsubscribe_events(self, call: Call) -> Any:
        given = call.params.get("topics") is not None
        topics = _known_topics(call) if given else list(call.client.topics)
        for topic in topics:
            call.client.topics.pop(topic, None)
        return {"unsubscribed": True, "topics": topics}

    async def _get_subscription_stats(self, call: Call) -> Any:
        clients = self._service.clients
        counts = {topic: sum(topic in client.topics for client in clients) for topic in TOPICS}
        return {
            "global_stats": {
                "total_subscriptions": sum(counts.values()),
                "active_clients": sum(bool(client.topics) for client in clients),
                "topic_counts": counts,
            },
            "client_topics": list(call.client.topics),
            "client_id": f"client_{call.client.number}",
        }

    async def _get_system_status(self, call: Call) -> Any:
        return {
            "status": "ready",
            "message": "The service is ready",
            "available_cameras": list(self._service.cameras),
            "discovery_active": False,
        }


def _invalid(detail: str) -> RefusedCall:
    return RefusedCall(RefusalReason.PARAMS, detail=detail)


def _known_topics(call: Call) -> list[str]:
    topics = call.params.get("topics")
    if not isinstance(topics, list) or not topics or not all(isinstance(topic, str) for topic in topics):
        raise _invalid("topics must be a list of texts")
    unknown = sorted(set(topics) - set(TOPICS))
    if unknown:
        raise RefusedCall(RefusalReason.PARAMS, {"invalid_topics": unknown}, detail="unknown topics")
    return topics
