"""The cameras of a simulated service, and how it tells of them."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from asynccam.errors import RecordingError
from asynccam.runtime.tasks import TaskScope
from asynccam.systems.mediamtx.simulator.behavior import ServiceWays


class Filming(Protocol):
    """Whatever writes a recording's file."""

    async def finish(self) -> None:
        """End the recording; its file is whole then."""
        ...


class LateFilming:
    """A recording that begins only some time after its start was answered.

    Args:
        scope: Owns the task that waits.
        delay: Seconds.
        film: Begins it.
    """

    def __init__(self, scope: TaskScope, delay: float, film: Callable[[], Awaitable[Filming]]) -> None:
        self._film = film
        self._delay = delay
        self._beginning = scope.spawn(self._begin(), name="late recorder")

    async def finish(self) -> None:
        """End the recording.

        Raises:
            RecordingError: It was ended before it began, so there is no file.
            AsynccamError: It could not begin.
        """
        if not self._beginning.done():
            self._beginning.cancel()
        await asyncio.wait({self._beginning})
        if self._beginning.cancelled():
            raise RecordingError("the recording was stopped before its recorder had started")
        await self._beginning.result().finish()

    async def _begin(self) -> Filming:
        await asyncio.sleep(self._delay)
        return await self._film()


@dataclass(slots=True)
class SimRecording:
    """A recording that runs.

    Attributes:
        session_id: Who it is, for generation 2.
        filename: The file's name.
        path: The file.
        format: Its container.
        began: Unix seconds.
        counted_from: The same moment by elapsed time.
        duration: Seconds after which it ends by itself, or None.
        filming: What writes the file.
    """

    session_id: str
    filename: str
    path: Path
    format: str
    began: float
    counted_from: float
    duration: float | None
    filming: Filming


@dataclass(slots=True)
class SimCamera:
    """A camera; change it while the service runs to see what clients make of it.

    Attributes:
        device: ``/dev/video0`` in generation 1, ``camera0`` in generation 2.
        stream: Its path on the media server.
        name: What people call it.
        resolution: ``WIDTHxHEIGHT``.
        fps: Frames a second.
        status: ``CONNECTED``, ``DISCONNECTED`` or ``ERROR``.
        stream_ready: Whether its stream is up; a start waits for it.
        fails: Pictures and recordings fail.
        stuck: A recording ended by itself, and the service does not know what to do with it.
        starting: A start is under way.
        streaming: Somebody asked for its stream.
        readers: Watchers of its stream.
        recording: What it records, or None.
        timers: Ends of timed recordings to come.
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

    def streams(self, host: str) -> dict[str, str]:
        """Addresses of its streams; nothing listens there."""
        return {
            "rtsp": f"rtsp://{host}:8554/{self.stream}",
            "webrtc": f"http://{host}:8889/{self.stream}",
            "hls": f"http://{host}:8888/{self.stream}/index.m3u8",
        }

    def told(self, host: str) -> dict[str, Any]:
        """The camera as lists and notifications have it."""
        return {
            "device": self.device,
            "status": self.status,
            "name": self.name,
            "resolution": self.resolution,
            "fps": self.fps,
            "streams": self.streams(host),
        }

    def capabilities(self) -> dict[str, Any]:
        """What it can do."""
        return {"formats": ["YUYV", "MJPEG"], "resolutions": [self.resolution]}

    def metrics(self, ways: ServiceWays, uptime: float) -> dict[str, Any]:
        """What its stream has done."""
        readers: Any = self.readers
        if ways.reader_list:
            readers = [{"type": "rtspSession", "id": str(number)} for number in range(self.readers)]
        return {"bytes_sent": 0, "readers": readers, "uptime": uptime}


def device_name(number: int, generation: int) -> str:
    """How a generation names its camera of this number."""
    return f"/dev/video{number}" if generation == 1 else f"camera{number}"


def told_time(seconds: float, ways: ServiceWays) -> Any:
    """A time as the service writes it."""
    return seconds if ways.number_times else datetime.fromtimestamp(seconds, UTC).isoformat()
