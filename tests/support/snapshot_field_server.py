"""A Snapshot server as it is in the field, byte for byte, with switches for what goes wrong there.

Bytes are written by hand as the maker's web framework writes them: one answer a connection, errors of the
application as JSON, errors of the framework as pages. See docs/protocols/snapshot.md.
"""

import asyncio
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote

from PIL import Image

RAW_FRAME = bytes([16, 128, 16, 128]) * 400
"""A frame of YUYV, black, as the server hands it out under the name of a JPEG."""

NOT_FOUND = (
    "The requested URL was not found on the server. If you entered the URL manually please check your "
    "spelling and try again."
)
NOT_ALLOWED = "The method is not allowed for the requested URL."
BROKEN = (
    "The server encountered an internal error and was unable to complete your request. Either the server is "
    "overloaded or there is an error in the application."
)
PAGES = {
    404: ("404 NOT FOUND", "Not Found", NOT_FOUND),
    405: ("405 METHOD NOT ALLOWED", "Method Not Allowed", NOT_ALLOWED),
    500: ("500 INTERNAL SERVER ERROR", "Internal Server Error", BROKEN),
}


def jpeg(shade: int = 128, size: tuple[int, int] = (64, 48)) -> bytes:
    """A true JPEG picture."""
    target = io.BytesIO()
    Image.new("RGB", size, (shade, 255 - shade, 64)).save(target, "JPEG")
    return target.getvalue()


def camera(name: str, device: str = "/dev/video0", **more: Any) -> dict[str, Any]:
    """A camera as the field's settings page writes it, numbers as text."""
    return {
        "name": name,
        "device_path": device,
        "type": "v4l2",
        "width": "1920",
        "height": "1080",
        "pixel_format": "MJPG",
        "stereo": False,
        "service_name": "",
        **more,
    }


@dataclass
class FieldServer:
    """One server.

    Attributes:
        cameras: What is configured.
        failing: Words of the failure, by camera.
        pictures: What a capture gives, by camera; a true JPEG by default.
        base: Path under which everything is, without a slash at its end.
        raw: Whole answers, by ``METHOD PATH``, in place of what would be answered.
        announce: Whether the length of a picture is told.
        breaks: After how many bytes each picture breaks off, in order; then none does.
        hold: A capture is answered once this is set.
        vanish: Leave at the next request: close it without a byte, and refuse every one afterwards.
        requests: ``METHOD PATH`` of each request, as it came.
        heads: Headers of each request, names in lower case.
        snapshots: Pictures by file name.
    """

    cameras: Any = field(
        default_factory=lambda: [camera("left"), camera("right", "/dev/video2", stereo=True)]
    )
    failing: dict[str, str] = field(default_factory=dict)
    pictures: dict[str, bytes] = field(default_factory=dict)
    base: str = ""
    raw: dict[str, bytes] = field(default_factory=dict)
    announce: bool = True
    breaks: list[int] = field(default_factory=list)
    hold: asyncio.Event = field(default_factory=asyncio.Event)
    vanish: bool = False
    requests: list[str] = field(default_factory=list)
    heads: list[dict[str, str]] = field(default_factory=list)
    snapshots: dict[str, bytes] = field(default_factory=dict)
    host: str = "127.0.0.1"
    port: int = 0
    _server: asyncio.Server | None = None

    def __post_init__(self) -> None:
        self.hold.set()

    @property
    def url(self) -> str:
        """The base URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}{self.base}"

    @property
    def captures(self) -> list[str]:
        """The requests that made the server take pictures."""
        return [request for request in self.requests if "/api/snapshot/" in request]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                method, target, _ = head[0].split(" ")
                headers = {
                    name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:-2])
                }
                await reader.readexactly(int(headers.get("content-length", 0)))
                self.requests.append(f"{method} {target}")
                self.heads.append(headers)
                if self.vanish:
                    assert self._server is not None
                    self._server.close()
                    return
                writer.write(await self._answer(method, target))
                await writer.drain()
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    # -- answers --------------------------------------------------------------------------------

    async def _answer(self, method: str, target: str) -> bytes:
        if f"{method} {target}" in self.raw:
            return self.raw[f"{method} {target}"]
        path = unquote(target.partition("?")[0])
        if not path.startswith(self.base + "/"):
            return page(404)
        parts = path.removeprefix(self.base).split("/")[1:]
        match parts:
            case ["api", "cameras"]:
                return says(self.cameras) if method == "GET" else page(405)
            case ["api", "snapshot", name] if name:
                if method not in ("GET", "POST"):
                    return page(405)
                await self.hold.wait()
                return self._several(name) if name in ("all", "stereo") else self._single(name)
            case ["snapshots" | "download", name] if name in self.snapshots:
                return self._picture(name, inline=parts[0] == "snapshots")
        return page(404)

    def _single(self, name: str) -> bytes:
        if not any(one.get("name") == name for one in self.cameras):
            return says({"success": False, "error": "Camera not found"}, "404 NOT FOUND")
        if name in self.failing:
            return says({"success": False, "error": self.failing[name]}, "500 INTERNAL SERVER ERROR")
        filename = self._take("snapshot", name)
        return says(
            {
                "success": True,
                "filename": filename,
                "message": f"Snapshot taken: {filename}",
                "image_url_path": f"/snapshots/{quote(filename)}",
            }
        )

    def _several(self, which: str) -> bytes:
        chosen = [one for one in self.cameras if which == "all" or one.get("stereo")]
        if not chosen:
            nothing = {"success": False, "error": f"No {which} cameras configured", "results": []}
            return says(nothing, "404 NOT FOUND")
        results: list[dict[str, str]] = []
        for one in chosen:
            name = one["name"]
            if name in self.failing:
                results.append({"camera_name": name, "status": "failure", "error": self.failing[name]})
                continue
            filename = self._take("api_all_cams" if which == "all" else "api_stereo", name)
            results.append(
                {
                    "camera_name": name,
                    "status": "success",
                    "filename": filename,
                    "image_url_path": f"/snapshots/{quote(filename)}",
                }
            )
        return says({"results": results})

    def _take(self, prefix: str, name: str) -> str:
        filename = f"{prefix}_{name}_20260131_142530{len(self.snapshots):06}.jpg"
        self.snapshots[filename] = self.pictures.get(name) or jpeg()
        return filename

    def _picture(self, name: str, *, inline: bool) -> bytes:
        body = self.snapshots[name]
        how = "inline" if inline else "attachment"
        head = [f"Content-Disposition: {how}; filename*=UTF-8''{quote(name)}", "Content-Type: image/jpeg"]
        if self.announce:
            head.append(f"Content-Length: {len(body)}")
        cut = self.breaks.pop(0) if self.breaks else len(body)
        return _whole("200 OK", head, body[:cut])


def says(answer: Any, status: str = "200 OK") -> bytes:
    """JSON as the framework writes it."""
    body = (json.dumps(answer, separators=(",", ":"), sort_keys=True) + "\n").encode()
    return _whole(status, ["Content-Type: application/json", f"Content-Length: {len(body)}"], body)


def page(number: int) -> bytes:
    """An error of the framework itself."""
    status, title, words = PAGES[number]
    lines = ["<!doctype html>", "<html lang=en>", f"<title>{number} {title}</title>", f"<h1>{title}</h1>"]
    body = "\n".join([*lines, f"<p>{words}</p>", ""]).encode()
    head = ["Content-Type: text/html; charset=utf-8", f"Content-Length: {len(body)}"]
    return _whole(status, head, body)


def text(status: str, body: bytes, *headers: str) -> bytes:
    """Any other answer."""
    return _whole(status, [*headers, f"Content-Length: {len(body)}"], body)


def _whole(status: str, headers: list[str], body: bytes) -> bytes:
    head = [
        f"HTTP/1.1 {status}",
        "Server: Werkzeug/3.0.1 Python/3.11.2",
        "Date: Sat, 31 Jan 2026 14:25:30 GMT",
        *headers,
        "Connection: close",
    ]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


@asynccontextmanager
async def in_the_field(server: FieldServer | None = None) -> AsyncIterator[FieldServer]:
    """A server on loopback."""
    field_server = server or FieldServer()
    listening = await asyncio.start_server(field_server.serve, field_server.host, field_server.port)
    field_server._server = listening
    field_server.port = listening.sockets[0].getsockname()[1]
    try:
        yield field_server
    finally:
        field_server.hold.set()
        listening.close()
        await listening.wait_closed()
