"""ThorVisionSimulator: a ThorVision server whose cameras GStreamer simulates, for tests and trials."""

import asyncio
import json
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Self

from aiohttp import WSCloseCode, web
from pydantic import ValidationError

from asynccam.errors import ConnectionError, RecordingError, StateError, TimeoutError, UsageError
from asynccam.runtime.tasks import TaskScope, finish, finish_on_error
from asynccam.systems.thorvision.models import HTTP_PORT, Camera, Capability, StreamCommand
from asynccam.systems.thorvision.simulator.stream import ServerFaults, SimulatedStream
from asynccam.wall_clock import unix_now

_KEPT_REQUESTS: Final = 1000
_SHUTDOWN_SECONDS: Final = 1.0
_LOGS: Final = {"server.log": "2024-05-01 started\n", "camera 0/usb.log": "2024-05-01 plugged in: 100 %\n"}


@dataclass(frozen=True, slots=True)
class Request:
    """Request of a client: percent-encoded path, JSON of the body or None, and Unix time of arrival."""

    method: str
    path: str
    body: Any
    at: float


def simulated_camera(
    number: int, *, device_id: str | None = None, width: int = 640, height: int = 480
) -> Camera:
    """Return a camera with common capabilities, the first of the given size at 30 frames per second."""
    rates = ("30/1", "30000/1001", "15/1")
    jpeg = [Capability(media_type="image/jpeg", width=width, height=height, framerate=rate) for rate in rates]
    small = Capability(
        media_type="image/jpeg", width=width // 4 * 2, height=height // 4 * 2, framerate="30/1"
    )
    raw = Capability(media_type="video/x-raw", format="YUY2", width=width, height=height, framerate="10/1")
    return Camera(id=number, name=f"Simulated camera {number}", caps=(*jpeg, small, raw), device_id=device_id)


class ThorVisionSimulator:
    """ThorVision server with cameras that GStreamer simulates; a context manager.

    Pictures show the camera's name and the time of day, and carry XDAQ metadata.

    Args:
        cameras: Cameras that are plugged in; by default one with a device id.
        host: Address to listen on, for HTTP and SRT.
        port: HTTP port; 0 for a free one.
        latency: Milliseconds within which SRT repairs losses.
        faults: Faults to simulate; may be changed while it runs.

    Attributes:
        host, port, faults: As given; the port is the actual one once started.
        streams: Running streams by camera id.
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
        self.requests: deque[Request] = deque(maxlen=_KEPT_REQUESTS)
        self._cameras = {camera.id: camera for camera in cameras}
        self._latency = latency
        self._listeners: set[web.WebSocketResponse] = set()
        self._runner: web.AppRunner | None = None
        self._busy: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)

    @property
    def address(self) -> str:
        """Return ``thorvision://HOST:PORT``."""
        return f"thorvision://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    @property
    def cameras(self) -> tuple[Camera, ...]:
        """Return the cameras that are plugged in."""
        return tuple(self._cameras.values())

    @property
    def listeners(self) -> int:
        """Return the number of clients that listen for hot-plug events."""
        return len(self._listeners)

    # -- lifecycle ----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen.

        Raises:
            ConnectionError: Cannot listen on the address.
            StateError: The simulator was started before.
        """
        if self._runner is not None:
            raise StateError("this simulator was started before")
        app = web.Application(middlewares=[self._apply_faults])
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
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS)
        try:
            async with finish_on_error(self.aclose):
                await self._runner.setup()
                await web.TCPSite(self._runner, self.host, self.port).start()
        except OSError as error:
            raise ConnectionError(f"cannot listen at {self.host}:{self.port}: {error}") from error
        self.port = self._runner.addresses[0][1]

    async def aclose(self) -> None:
        """Stop the server and all streams; harmless when called twice."""
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

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    # -- hot-plug -----------------------------------------------------------------------------------

    async def plug(self, camera: Camera) -> None:
        """Plug a camera in, and notify the listeners."""
        self._cameras[camera.id] = camera
        text = json.dumps({"event_type": "Added", "camera": camera.model_dump(mode="json")})
        for _ in range(2 if self.faults.repeat_added else 1):
            await self.tell(text)

    async def unplug(self, camera_id: int) -> None:
        """Unplug a camera, end its stream and notify the listeners."""
        self._cameras.pop(camera_id, None)
        stream = self.streams.pop(camera_id, None)
        if stream is not None:
            await stream.aclose()
        await self.tell(json.dumps({"event_type": "Removed", "camera": {"id": camera_id}}))

    async def tell(self, text: str) -> None:
        """Send any text to the listeners."""
        for listener in tuple(self._listeners):
            with suppress(OSError):  # it disconnects just now
                await listener.send_str(text)

    async def drop_listeners(self) -> None:
        """Close all connections for hot-plug events, but keep serving."""
        for listener in tuple(self._listeners):
            await listener.close(code=WSCloseCode.GOING_AWAY, message=b"the server restarts")

    # -- handlers -----------------------------------------------------------------------------------

    @web.middleware
    async def _apply_faults(
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
        response = await handler(request)
        if self.faults.wrong_json:
            return web.Response(text='[{"id": "none", "name"', content_type="application/json")
        return response

    async def _alive(self, _: web.Request) -> web.Response:
        return web.Response(text="ThorVision simulator")

    async def _list(self, _: web.Request) -> web.Response:
        return web.json_response([camera.model_dump(mode="json") for camera in self.cameras])

    async def _start(self, request: web.Request) -> web.Response:
        try:
            command = StreamCommand.model_validate(await request.json())
        except (ValidationError, ValueError):
            return _error(422, "not a start")
        camera = self._cameras.get(command.id)
        if camera is None:
            return _error(404, f"no camera {command.id}")
        capability = next((cap for cap in camera.caps if str(cap) == command.capability), None)
        if capability is None:
            return _error(400, f"camera {command.id} cannot {command.capability}")
        async with self._busy[command.id]:
            if command.id in self.streams:
                return web.json_response({"status": "streaming already"})
            if self.faults.refuses(command.port):
                return _error(409, f"port {command.port} is in use")
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
                return _error(500, str(error))
            self.streams[command.id] = stream
        return web.json_response({"status": "ok"})

    async def _stop(self, request: web.Request) -> web.Response:
        try:
            camera_id = int((await request.json())["id"])
        except (ValueError, TypeError, KeyError):
            return _error(422, "not a stop")
        async with self._busy[camera_id]:
            stream = self.streams.pop(camera_id, None)
            if stream is None:
                return _error(400, f"camera {camera_id} is not streaming")
            await stream.aclose()
        if self.faults.refuse_stop:
            return _error(500, "cannot stop")
        return web.json_response({"status": "ok"})

    async def _logs(self, _: web.Request) -> web.Response:
        return web.json_response(list(_LOGS))

    async def _log(self, request: web.Request) -> web.Response:
        text = _LOGS.get(request.match_info["name"])
        return _error(404, "no such log") if text is None else web.Response(text=text)

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
                await asyncio.sleep(0)  # clients send nothing here; one that does must not hold the loop
        finally:
            self._listeners.discard(listener)
        return listener


def _error(status: int, detail: str) -> web.Response:
    return web.json_response({"detail": detail}, status=status)


async def serve(
    *,
    host: str = "127.0.0.1",
    port: int = HTTP_PORT,
    cameras: int = 2,
    width: int = 640,
    height: int = 480,
    replug: float | None = None,
    faults: ServerFaults | None = None,
    on_ready: Callable[[ThorVisionSimulator], None] = lambda _: None,
) -> None:
    """Serve a number of simulated cameras until cancelled; ``width`` x ``height`` is their largest picture.

    With ``replug`` the last camera is unplugged after so many seconds, plugged in after as many, and so on.
    ``on_ready`` is called once the server listens.

    Raises:
        UsageError: No camera, pictures below 64x64 pixels, or ``replug`` not above 0.
        ConnectionError: Cannot listen on the address.
    """
    if cameras < 1 or width < 64 or height < 64 or (replug is not None and replug <= 0):
        raise UsageError("cameras must be >= 1, width and height >= 64, replug > 0")
    devices = [
        simulated_camera(
            number, device_id=f"simulated-{number}", width=width // 2 * 2, height=height // 2 * 2
        )
        for number in range(cameras)
    ]
    async with ThorVisionSimulator(devices, host=host, port=port, faults=faults) as simulator:
        on_ready(simulator)
        if replug is None:
            await asyncio.Event().wait()
        while replug is not None:
            await asyncio.sleep(replug)
            await simulator.unplug(devices[-1].id)
            await asyncio.sleep(replug)
            await simulator.plug(devices[-1])
