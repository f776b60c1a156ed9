"""The server's HTTP calls, one method each. See docs/protocols/thorvision.md."""

from typing import Any, Final
from urllib.parse import quote

from yarl import URL

from asynccam.errors import NotFoundError, RemoteProtocolError, UsageError
from asynccam.net.http import HttpClient, status_error
from asynccam.outside import clean_text
from asynccam.systems.thorvision.models import (
    Camera,
    Capability,
    StopCommand,
    StreamCommand,
    Versions,
    parse_cameras,
    parse_names,
    parse_object,
    parse_version,
)

MAX_ANSWER: Final = 64 * 1024 * 1024
"""Bytes an answer may have; logs are the long ones."""


class ServerApi:
    """Calls on one server.

    Every call raises `ConnectionError` and `TimeoutError` when the server cannot be asked, `DeviceError`
    and its kin for a status other than 2xx, and `RemoteProtocolError` for an answer that is none.

    Args:
        host: The server.
        port: Its HTTP port.
        http: Sends the requests; stays the caller's to close.
        timeout: Seconds each call may take.
    """

    def __init__(self, host: str, port: int, http: HttpClient, timeout: float) -> None:
        self.host = host
        self.port = port
        self._http = http
        self._timeout = timeout
        authority = f"[{host}]" if ":" in host else host
        try:
            self._base = str(URL(f"http://{authority}:{port}"))
        except ValueError:
            raise UsageError(f"{host!r}:{port} is no address of a server") from None
        self.events_url = f"ws://{authority}:{port}/ws"

    async def cameras(self) -> tuple[Camera, ...]:
        """All cameras that are there now."""
        return parse_cameras(await self._get("/cameras"), self._base)

    async def start(self, camera: Camera, port: int, capability: Capability) -> None:
        """Have the server listen for SRT and send the camera's pictures to who calls.

        A lost request may have been heard: the errors' ``maybe_executed`` says so.
        """
        command = StreamCommand(id=camera.id, port=port, capability=str(capability))
        await self._post("/test" if camera.is_test else "/jpeg", command.model_dump_json())

    async def stop(self, camera_id: int) -> None:
        """End a camera's stream."""
        await self._post("/stop", StopCommand(id=camera_id).model_dump_json())

    async def logs(self) -> tuple[str, ...]:
        """Names of the server's logs."""
        return parse_names(await self._get("/logs"), self._base)

    async def log(self, name: str) -> str:
        """One log; bytes that are no UTF-8 are replaced."""
        return clean_text((await self._get(f"/logs/{quote(name, safe='')}")).decode(errors="replace"))

    async def openapi(self) -> dict[str, Any]:
        """The server's own description of its API."""
        return parse_object(await self._get("/openapi.json"), self._base)

    async def versions(self) -> Versions:
        """Versions of API and server, as far as it tells."""
        return Versions(
            api=await self._version("/api_version"), server=await self._version("/server_version")
        )

    async def _version(self, path: str) -> str | None:
        try:
            return parse_version(await self._get(path), self._base)
        except NotFoundError:
            return None

    async def _get(self, path: str) -> bytes:
        return await self._ask("GET", path)

    async def _post(self, path: str, body: str) -> None:
        # What the answer's body says is not specified; its status decides.
        await self._ask("POST", path, data=body, headers={"Content-Type": "application/json"})

    async def _ask(self, method: str, path: str, **options: Any) -> bytes:
        url = URL(self._base + path, encoded=True)
        changes = method != "GET"
        async with self._http.request(
            method, url, timeout=self._timeout, maybe_executed=changes, **options
        ) as response:
            if not 200 <= response.status < 300:
                raise status_error(response, f"{method} {path}")
            body = bytearray()
            async for piece in response.content.iter_chunked(1 << 16):
                body += piece
                if len(body) > MAX_ANSWER:
                    raise RemoteProtocolError(f"{url} answers with more than {MAX_ANSWER} bytes")
            return bytes(body)
