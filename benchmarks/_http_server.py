"""The servers of `benchmarks.http`: ours, and the maker's way, asked for cameras and for a picture.

    python -m benchmarks._http_server asynccam|maker

prints a port and answers ``GET /api/cameras`` with three cameras, and ``GET /snapshots/picture.jpg`` with
100 kB, until it is terminated.
"""

import asyncio
import json
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Final

AT_ONCE: Final = 50
CAMERAS: Final = [
    {
        "name": name,
        "device_path": "/dev/video0",
        "type": "v4l2",
        "width": 1920,
        "height": 1080,
        "pixel_format": "MJPG",
        "stereo": False,
        "service_name": "",
    }
    for name in ("left", "right", "main")
]
PICTURE: Final = "picture.jpg"
PICTURE_BYTES: Final = b"\xff\xd8" + bytes(100_000)
PATHS: Final = {"cameras": "/api/cameras", "a picture of 100 kB": f"/snapshots/{PICTURE}"}
_REQUEST: Final = (
    "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUser-Agent: python-requests/2.31.0\r\n"
    "Accept-Encoding: gzip, deflate\r\nAccept: */*\r\nConnection: {connection}\r\n\r\n"
)


def module(server: str) -> tuple[str, ...]:
    """The command line of one of the servers."""
    return sys.executable, "-m", "benchmarks._http_server", server


# -- the client, the same for all ------------------------------------------------------------------


class Asking(asyncio.Protocol):
    """Asks again and again, on one connection or on a new one each time."""

    def __init__(self, request: bytes, counter: "Counter", *, stay: bool) -> None:
        self._request = request
        self._counter = counter
        self._stay = stay
        self._buffer = b""
        self._ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        lower = head.lower()
        start = lower.index(b"content-length:") + 15
        end = lower.find(b"\r\n", start)
        length = int(lower[start : end if end > 0 else None])
        if len(body) < length:
            return
        assert head.startswith((b"HTTP/1.1 200", b"HTTP/1.0 200")), head
        self._buffer = b""
        more = self._counter.answered()
        if self._stay and more:
            self._transport.write(self._request)
        else:
            self._ended = True
            self._transport.close()
            self._counter.ended(more=more)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._ended:
            self._counter.failed(exc or ConnectionError("the server hung up"))


class Counter:
    """Counts answers, and keeps as many clients asking as there should be."""

    def __init__(self, port: int, path: str, calls: int, at_once: int, *, stay: bool) -> None:
        self._port = port
        self._path = path
        self._left = calls
        self._running = at_once
        self._connection = "keep-alive" if stay else "close"
        self._stay = stay
        self._done = asyncio.get_running_loop().create_future()
        self._starting: set[asyncio.Task[object]] = set()
        for _ in range(at_once):
            self._start()

    async def run(self) -> None:
        """Until every call has its answer."""
        await self._done

    def answered(self) -> bool:
        self._left -= 1
        return self._left >= self._running

    def ended(self, *, more: bool) -> None:
        if more:
            self._start()
        else:
            self._running -= 1
            if self._running == 0:
                self._done.set_result(None)

    def failed(self, error: BaseException) -> None:
        if not self._done.done():
            self._done.set_exception(error)

    def _start(self) -> None:
        request = _REQUEST.format(path=self._path, port=self._port, connection=self._connection).encode()
        loop = asyncio.get_running_loop()
        asking = partial(Asking, request, self, stay=self._stay)
        task = loop.create_task(loop.create_connection(asking, "127.0.0.1", self._port))
        self._starting.add(task)
        task.add_done_callback(self._connected)

    def _connected(self, task: "asyncio.Task[object]") -> None:
        self._starting.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self.failed(error)


def answers_a_second(url: str, path: str, calls: int, *, stay: bool) -> float:
    """Answers a second to fifty clients at once, after some that do not count."""
    port = int(url.rpartition(":")[2])

    async def run() -> float:
        await Counter(port, path, 2 * AT_ONCE, AT_ONCE, stay=stay).run()
        began = time.perf_counter()
        await Counter(port, path, calls, AT_ONCE, stay=stay).run()
        return calls / (time.perf_counter() - began)

    return asyncio.run(run())


# -- the servers -----------------------------------------------------------------------------------


async def _asynccam() -> None:
    from asynccam.systems.snapshot.server.serve import serve

    with tempfile.TemporaryDirectory() as directory:
        config = Path(directory, "config.json")
        config.write_text(json.dumps({"cameras": CAMERAS, "imu": {"enabled": False}}))
        pictures = Path(directory, "snapshots")
        pictures.mkdir()
        (pictures / PICTURE).write_bytes(PICTURE_BYTES)
        await serve(config, port=0, on_ready=lambda web: print(web.port, flush=True))


def _maker() -> None:
    """The maker's application as its program runs it: its routes, its configuration read at each request.

    Its server comes with the framework, has a thread a connection, logs every request and ends every
    connection after its answer. The program lowers its own priority, which this does not.
    """
    from flask import Flask, Response, jsonify, render_template_string, send_from_directory
    from werkzeug.serving import make_server

    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        config = directory / "config.json"
        config.write_text(json.dumps(CAMERAS, indent=2))
        (directory / PICTURE).write_bytes(PICTURE_BYTES)
        app = Flask(__name__)

        def load_config() -> list[dict[str, object]]:
            if not config.exists():
                return []
            with config.open() as file:
                cameras: list[dict[str, object]] = json.load(file)
            return cameras

        @app.route("/")
        def index() -> str:
            return render_template_string("<h1>Snapshots</h1>")

        @app.route("/settings", methods=["GET"])
        def settings() -> str:
            return render_template_string(
                "{% for camera in cameras %}{{ camera.name }}{% endfor %}", cameras=load_config()
            )

        @app.route("/snapshots/<filename>")
        def snapshot(filename: str) -> Response:
            return send_from_directory(directory, filename)

        @app.route("/download/<filename>")
        def download(filename: str) -> Response:
            return send_from_directory(directory, filename, as_attachment=True)

        @app.route("/api/cameras", methods=["GET"])
        def cameras() -> Response:
            return jsonify(load_config())

        @app.route("/api/snapshot/<name>", methods=["GET", "POST"])
        def capture(name: str) -> tuple[Response, int]:
            if not any(camera["name"] == name for camera in load_config()):
                return jsonify({"success": False, "error": "Camera not found"}), 404
            return jsonify({"success": False, "error": "Capture failed"}), 500

        server = make_server("127.0.0.1", 0, app, threaded=True)
        print(server.server_port, flush=True)
        server.serve_forever()


def main() -> None:
    match sys.argv[1]:
        case "asynccam":
            asyncio.run(_asynccam())
        case "maker":
            _maker()


if __name__ == "__main__":
    main()
