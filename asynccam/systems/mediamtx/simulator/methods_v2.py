"""The methods only generation 2 of a simulated service has. See docs/protocols/mediamtx.md."""

from typing import Any, Final
from urllib.parse import urlsplit

from asynccam.systems.mediamtx.simulator.calls import Call, Method
from asynccam.systems.mediamtx.simulator.cameras import SimCamera, told_time
from asynccam.systems.mediamtx.simulator.errors import Refusal, Why
from asynccam.systems.mediamtx.simulator.methods_v1 import Methods
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
_ROLES: Final = {
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


class MoreMethods(Methods):
    """All methods of generation 2."""

    def table(self) -> dict[str, Method]:
        """Every method but ``authenticate``, with the role it takes."""
        return super().table() | self.table_of(_ROLES)

    # -- streams ----------------------------------------------------------------------------------

    async def get_stream_url(self, call: Call) -> Any:
        """Where a camera's stream is."""
        camera = self.camera(call)
        return {
            "device": camera.device,
            "stream_url": camera.streams(self.service.host)["rtsp"],
            "available": camera.stream_ready.is_set(),
            "active_consumers": camera.readers,
            "stream_status": self._stream_state(camera),
        }

    async def get_stream_status(self, call: Call) -> Any:
        """Whether a camera streams."""
        camera = self.camera(call)
        return {
            "device": camera.device,
            "status": self._stream_state(camera),
            "ready": camera.stream_ready.is_set(),
            "metrics": camera.metrics(self.service.ways, self.service.uptime),
        }

    async def start_streaming(self, call: Call) -> Any:
        """Keep a camera's stream up."""
        camera = self.camera(call)
        if camera.streaming:
            raise Refusal(Why.STATE, {"device": camera.device}, detail="Stream is active already")
        await self.service.stream_of(camera)
        camera.streaming = True
        return {
            "device": camera.device,
            "stream_name": camera.stream,
            "stream_url": camera.streams(self.service.host)["rtsp"],
            "status": "STARTED",
            "start_time": told_time(unix_now(), self.service.ways),
        }

    async def stop_streaming(self, call: Call) -> Any:
        """Let a camera's stream go."""
        camera = self.camera(call)
        if not camera.streaming:
            raise Refusal(Why.STATE, {"device": camera.device}, detail="No stream to stop")
        camera.streaming = False
        return {"device": camera.device, "stream_name": camera.stream, "status": "STOPPED"}

    def _stream_state(self, camera: SimCamera) -> str:
        return "ACTIVE" if camera.streaming or camera.recording is not None else "INACTIVE"

    # -- events -----------------------------------------------------------------------------------

    async def subscribe_events(self, call: Call) -> Any:
        """Be told of topics, as long as the connection lasts."""
        topics = _known(call.words("topics"))
        filters = call.params.get("filters")
        if filters is not None and not isinstance(filters, dict):
            raise Refusal(Why.PARAMS, detail="filters must be an object")
        call.caller.topics.update(dict.fromkeys(topics, filters or {}))
        return {"subscribed": True, "topics": topics, "filters": filters}

    async def unsubscribe_events(self, call: Call) -> Any:
        """Be told no more of some topics, or of any."""
        given = call.params.get("topics") is not None
        topics = _known(call.words("topics")) if given else list(call.caller.topics)
        for topic in topics:
            call.caller.topics.pop(topic, None)
        return {"unsubscribed": True, "topics": topics}

    async def get_subscription_stats(self, call: Call) -> Any:
        """Who is told of what."""
        counts = {topic: sum(topic in caller.topics for caller in self.service.callers) for topic in TOPICS}
        subscribed = sum(bool(caller.topics) for caller in self.service.callers)
        return {
            "global_stats": {
                "total_subscriptions": sum(counts.values()),
                "active_clients": subscribed,
                "topic_counts": counts,
            },
            "client_topics": list(call.caller.topics),
            "client_id": f"client_{call.caller.number}",
        }

    # -- the service ------------------------------------------------------------------------------

    async def get_system_status(self, call: Call) -> Any:
        """Whether it is ready, and which cameras there are."""
        return {
            "status": "ready",
            "message": "The service is ready",
            "available_cameras": list(self.service.cameras),
            "discovery_active": False,
        }

    async def discover_external_streams(self, call: Call) -> Any:
        """Look for streams elsewhere; there are none."""
        now = told_time(unix_now(), self.service.ways)
        return {"discovered_streams": [], "total_found": 0, "scan_timestamp": now}

    async def add_external_stream(self, call: Call) -> Any:
        """Take in a stream from elsewhere."""
        url = call.text("stream_url")
        if urlsplit(url).scheme not in ("rtsp", "rtmp", "srt", "udp", "http", "https"):
            raise Refusal(Why.PARAMS, detail="stream_url must be the address of a stream")
        if url in self.service.external:
            raise Refusal(Why.STATE, {"stream_url": url}, detail="Stream was added already")
        now = told_time(unix_now(), self.service.ways)
        stream = {"url": url, "name": call.text("stream_name"), "status": "ADDED", "discovered_at": now}
        self.service.external[url] = stream
        return {"stream_url": url, "stream_name": stream["name"], "status": "ADDED", "timestamp": now}

    async def remove_external_stream(self, call: Call) -> Any:
        """Let a stream from elsewhere go."""
        url = call.text("stream_url")
        if self.service.external.pop(url, None) is None:
            raise Refusal(Why.FILE, {"resource": "stream", "id": url}, detail="Stream not found")
        now = told_time(unix_now(), self.service.ways)
        return {"stream_url": url, "status": "REMOVED", "timestamp": now}

    async def get_external_streams(self, call: Call) -> Any:
        """The streams from elsewhere."""
        streams = list(self.service.external.values())
        return {"external_streams": streams, "total_count": len(streams)}

    async def set_discovery_interval(self, call: Call) -> Any:
        """Say how often to look for streams elsewhere."""
        return {"scan_interval": call.count("scan_interval", 0, 0), "status": "UPDATED"}


def _known(topics: list[str]) -> list[str]:
    unknown = sorted(set(topics) - set(TOPICS))
    if unknown:
        raise Refusal(Why.PARAMS, {"invalid_topics": unknown}, detail="unknown topics")
    return topics
