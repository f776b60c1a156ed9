"""Cameras and running recordings of a simulated service, as its messages describe them."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from asynccam.systems.mediamtx.simulator.behavior import ServiceWays

FinishRecording = Callable[[], Coroutine[Any, Any, None]]
"""Ends a recording and completes its file."""


@dataclass(slots=True)
class SimRecording:
    """A running recording."""

    session_id: str
    filename: str
    container: str
    began: float  # Unix seconds
    began_elapsed: float  # the same moment as elapsed time
    duration: float | None  # seconds after which it ends by itself
    finish: FinishRecording


@dataclass(slots=True)
class SimCamera:
    """A camera; its attributes may be changed while the service runs."""

    device: str  # ``/dev/video0`` in generation 1, ``camera0`` in generation 2
    stream: str  # path on the media server
    name: str
    resolution: str = "320x180"
    fps: float = 15.0
    status: str = "CONNECTED"  # or ``DISCONNECTED`` or ``ERROR``
    stream_ready: asyncio.Event = field(default_factory=asyncio.Event)  # a start waits for it
    fails: bool = False  # pictures and recordings fail
    stuck: bool = False  # a recording ended by itself; starts and stops are refused since
    starting: bool = False
    streaming: bool = False  # started by a client
    readers: int = 0  # of the stream
    recording: SimRecording | None = None
    timers: "set[asyncio.Task[None]]" = field(default_factory=set)  # end timed recordings

    @property
    def stream_status(self) -> str:
        """``ACTIVE`` or ``INACTIVE``."""
        return "ACTIVE" if self.streaming or self.recording is not None else "INACTIVE"

    def streams(self, host: str) -> dict[str, str]:
        """Return the URLs of its streams; nothing listens there."""
        return {
            "rtsp": f"rtsp://{host}:8554/{self.stream}",
            "webrtc": f"http://{host}:8889/{self.stream}",
            "hls": f"http://{host}:8888/{self.stream}/index.m3u8",
        }

    def summary(self, host: str) -> dict[str, Any]:
        """Return the camera as lists and notifications hold it."""
        return {
            "device": self.device,
            "status": self.status,
            "name": self.name,
            "resolution": self.resolution,
            "fps": self.fps,
            "streams": self.streams(host),
        }

    def capabilities(self) -> dict[str, Any]:
        """Return formats and resolutions."""
        return {"formats": ["YUYV", "MJPEG"], "resolutions": [self.resolution]}

    def metrics(self, ways: ServiceWays, uptime: float) -> dict[str, Any]:
        """Return the metrics of its stream."""
        readers: Any = self.readers
        if ways.reader_list:
            readers = [{"type": "rtspSession", "id": str(index)} for index in range(self.readers)]
        return {"bytes_sent": 0, "readers": readers, "uptime": uptime}


def time_value(seconds: float, ways: ServiceWays) -> Any:
    """Return Unix seconds as the service writes them."""
    return seconds if ways.number_times else datetime.fromtimestamp(seconds, UTC).isoformat()
