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
    """A running recording.

    ``began`` is Unix seconds, ``began_elapsed`` the same moment as elapsed time; ``duration`` is the seconds
    after which it ends by itself, or None; ``finish`` completes its file.
    """

    session_id: str
    filename: str
    container: str
    began: float
    began_elapsed: float
    duration: float | None
    finish: FinishRecording


@dataclass(slots=True)
class SimCamera:
    """A camera; its attributes may be changed while the service runs.

    Attributes:
        device: ``/dev/video0`` in generation 1, ``camera0`` in generation 2.
        stream: Its path on the media server.
        resolution: ``WIDTHxHEIGHT``.
        status: ``CONNECTED``, ``DISCONNECTED`` or ``ERROR``.
        stream_ready: Whether its stream is up; a start waits for it.
        fails: Pictures and recordings fail.
        stuck: A recording ended by itself, and the camera refuses starts and stops since.
        starting: A start is running.
        streaming: Streaming was started by a client.
        readers: Number of readers of its stream.
        timers: Tasks that end timed recordings.
    """

    device: str
    stream: str
    name: str
    resolution: str = "320x180"
    fps: float = 15.0
    status: str = "CONNECTED"
    stream_ready: asyncio.Event = field(default_factory=asyncio.Event)
    fails: bool = False
    stuck: bool = False
    starting: bool = False
    streaming: bool = False
    readers: int = 0
    recording: SimRecording | None = None
    timers: "set[asyncio.Task[None]]" = field(default_factory=set)

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
