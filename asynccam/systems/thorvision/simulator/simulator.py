"""ThorVisionSimulator: a ThorVision server without cameras, for tests and for trying things out."""

import asyncio
import json
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

from aiohttp import WSCloseCode, web
from pydantic import ValidationError

from asynccam.errors import ConnectionError, RecordingError, StateError, TimeoutError
from asynccam.runtime.tasks import TaskScope, finish
from asynccam.systems.thorvision.models import Camera, Capability, StreamCommand
from asynccam.systems.thorvision.simulator.faults import ServerFaults
from asynccam.systems.thorvision.simulator.stream import SimulatedStream
from asynccam.wall_clock import unix_now

_REMEMBERED: Final = 1000
_GOODBYE_SECONDS: Final = 1.0
_LOGS: Final = {"server.log": "2024-05-01 started\n", "camera 0/usb.log": "2024-05-01 plugged in: 100 %\n"}


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asked.

    Attributes:
        method: ``GET`` or ``POST``.
        path: As it came, still percent-encoded.
        body: The JSON in it, or None.
        at: When it came, Unix seconds.
    """

    method: str
    path: str
    body: Any
    at: float


def simulated_camera(
    number: int, *, device_id: str | None = None, width: int = 640, height: int = 480
) -> Camera:
    """A camera with a few usual capabilities, the first being of the given size at 30 frames a second."""
    rates = ("30/1", "30000/1001", "15/1")
    jpeg = [Capability(media_type="image/jpeg", width=width, height=height, framerate=rate) for rate in rates]
    small = Capability(
        media_type="image/jpeg", width=width // 4 * 2, height=height // 4 * 2, framerate="30/1"
    )
    raw = Capability(media_type="video/x-raw", format="YUY2", width=width, height=height, framerate="10/1")
    return Camera(id=number, name=f"Simulated camera {number}", caps=(*jpeg, small, raw), device_id=device_id)


class ThorVisionSimulator:
    """A server with cameras that GStreamer makes up; a context manager.

    Pictures show the camera's name and the time of day, and carry the metadata of an XDAQ.

    Args:
        cameras: Those that are plugged in; by default one with a device id.
        host: Address to listen at, for HTTP and SRT.
        port: HTTP port; 0 takes a free one.
        latency: Milliseconds within which SRT mends losses.
        faults: How it misbehaves.

    Attributes:
        host: As above.
        port: Where it listens.
        faults: As above; may be changed while it runs.
        streams: What it streams, by camera.
        requests: The last requests, oldest first.
    """

    def __init__(
        self,
        cameras: Iterable[Camera] | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        latency: int = 20,
        faults: ServerFaults | None = None,
    ) -> None:
        if cameras is None:
            cameras = (simulated_camera(0, device_id="usb-0000:00:14.0-1"),)
        self.host = host
        self.port = port
        self.faults = faults or ServerFaults()
        self.streams: dict[int, SimulatedStream] = {}
        self.requests: deque[Request] = deque(maxlen=_REMEMBERED)
        self._cameras = {camera.id: camera for camera in cameras}
        self._latency = latency
        self._listeners: set[web.WebSocketResponse] = set()
        self._runner: web.AppRunner | None = None
        self._busy: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)

    @property
    def address(self) -> str:
        """``thorvision://HOST:PORT``."""
        return f"thorvision://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    @property
    def cameras(self) -> tuple[Camera, ...]:
        """Those that are plugged in."""
        return tuple(self._cameras.values())

    @property
    def listeners(self) -> int:
        """How many clients listen for hot-plug events."""
        return len(self._listeners)

    # -- its life -----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen.

        Raises:
            ConnectionError: The address cannot be listened at.
            StateError: It listens already.
        """
        if self._runner is not None:
            raise StateError("this simulator has been started")
        app = web.Application(middlewares=[self._troubled])
        app.add_routes(
            [
                web.get("/", self._alive),
                web.get("/cameras", self._list),
                web.post("/jpeg", self._start),
                web.post("/test", self._start),
                web.post("/stop", self._stop),
                web.get("/logs", self._logs),
                web.get("/logs/{name}", self._log),
                web.get("/openapi.json", self._openapi),
                web.get("/api_version", self._version),
                web.get("/server_version", self._version),
                web.get("/ws", self._listen),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=_GOODBYE_SECONDS)
        try:
            await self._runner.setup()
            site = web.TCPSite(self._runner, self.host, self.port)
            await site.start()
        except OSError as error:
            await self.aclose()
            raise ConnectionError(f"cannot listen at {self.host}:{self.port}: {error}") from error
        except BaseException:
            await finish(self.aclose())
            raise
        self.port = self._runner.addresses[0][1]

    async def aclose(self) -> None:
        """Go, streams and all; harmless when called twice."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await finish(self._close(runner))

    async def _close(self, runner: web.AppRunner) -> None:
        await self.drop_listeners()
        await runner.cleanup()
        async with TaskScope("end of simulator") as scope:
            ends = {camera_id: stream.aclose() for camera_id, stream in self.streams.items()}
            await scope.gather(ends, name="stream")
        self.streams.clear()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    # -- cameras that come and go -------------------------------------------------------------------

    async def plug(self, camera: Camera) -> None:
        """Plug a camera in, and tell who listens."""
        self._cameras[camera.id] = camera
        text = json.dumps({"event_type": "Added", "camera": camera.model_dump(mode="json")})
        for _ in range(2 if self.faults.repeat_added else 1):
            await self.tell(text)

    async def unplug(self, camera_id: int) -> None:
        """Unplug a camera, and tell who listens; its stream ends."""
        self._cameras.pop(camera_id, None)
        stream = self.streams.pop(camera_id, None)
        if stream is not None:
            await stream.aclose()
        await self.tell(json.dumps({"event_type": "Removed", "camera": {"id": camera_id}}))

    async def tell(self, text: str) -> None:
        """Send any text to who listens."""
        for listener in tuple(self._listeners):
            with suppress(OSError):  # it goes just now
                await listener.send_str(text)

    async def drop_listeners(self) -> None:
        """End all connections for hot-plug events; the server itself stays."""
        for listener in tuple(self._listeners):
            await listener.close(code=WSCloseCode.GOING_AWAY, message=b"the server restarts")

    # -- answers ------------------------------------------------------------------------------------

    @web.middleware
    async def _troubled(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        body = None
        if request.can_read_body:
            with suppress(ValueError):
                body = await request.json()
        self.requests.append(Request(request.method, request.raw_path, body, unix_now()))
        if request.path == "/ws":
            return await handler(request)
        if self.faults.slow:
            await asyncio.sleep(self.faults.slow)
        answer = await handler(request)
        if self.faults.wrong_json:
            return web.Response(text='[{"id": "none", "name"', content_type="application/json")
        return answer

    async def _alive(self, _: web.Request) -> web.Response:
        return web.Response(text="ThorVision simulator")

    async def _list(self, _: web.Request) -> web.Response:
        return web.json_response([camera.model_dump(mode="json") for camera in self.cameras])

    async def _start(self, request: web.Request) -> web.Response:
        try:
            command = StreamCommand.model_validate(await request.json())
        except (ValidationError, ValueError):
            return _refusal(422, "not a start")
        camera = self._cameras.get(command.id)
        if camera is None:
            return _refusal(404, f"no camera {command.id}")
        capability = next((cap for cap in camera.caps if str(cap) == command.capability), None)
        if capability is None:
            return _refusal(400, f"camera {command.id} cannot {command.capability}")
        async with self._busy[command.id]:
            if command.id in self.streams:
                return web.json_response({"status": "streaming already"})
            if self.faults.refuses(command.port):
                return _refusal(409, f"port {command.port} is in use")
            stream = SimulatedStream(
                camera.name,
                capability,
                host=self.host,
                port=command.port,
                latency=self._latency,
                faults=self.faults,
            )
            try:
                await stream.start()
            except (RecordingError, TimeoutError) as error:
                return _refusal(500, str(error))
            self.streams[command.id] = stream
        return web.json_response({"status": "ok"})

    async def _stop(self, request: web.Request) -> web.Response:
        try:
            camera_id = (await request.json())["id"]
            camera_id = int(camera_id)
        except (ValueError, TypeError, KeyError):
            return _refusal(422, "not a stop")
        async with self._busy[camera_id]:
            stream = self.streams.pop(camera_id, None)
            if stream is None:
                return _refusal(400, f"camera {camera_id} is not streaming")
            await stream.aclose()
        if self.faults.refuse_stop:
            return _refusal(500, "cannot stop")
        return web.json_response({"status": "ok"})

    async def _logs(self, _: web.Request) -> web.Response:
        return web.json_response(list(_LOGS))

    async def _log(self, request: web.Request) -> web.Response:
        text = _LOGS.get(request.match_info["name"])
        return _refusal(404, "no such log") if text is None else web.Response(text=text)

    async def _openapi(self, _: web.Request) -> web.Response:
        return web.json_response(
            {"openapi": "3.1.0", "info": {"title": "ThorVision simulator", "version": "1.0.0"}, "paths": {}}
        )

    async def _version(self, _: web.Request) -> web.Response:
        return web.json_response({"version": "1.0.0"})

    async def _listen(self, request: web.Request) -> web.WebSocketResponse:
        listener = web.WebSocketResponse(compress=False)
        await listener.prepare(request)
        self._listeners.add(listener)
        try:
            async for _ in listener:
                await asyncio.sleep(0)  # clients have nothing to say here, and are not to hold the loop
        finally:
            self._listeners.discard(listener)
        return listener


def _refusal(status: int, words: str) -> web.Response:
    return web.json_response({"detail": words}, status=status)
