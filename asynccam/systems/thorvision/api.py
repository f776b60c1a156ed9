"""HTTP requests to a ThorVision server, one method each. See docs/protocols/thorvision.md."""

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

MAX_RESPONSE: Final = 64 * 1024 * 1024
"""Maximum bytes of a response body; logs are the long ones."""


class ServerApi:
    """Requests to one server, each with a timeout in seconds.

    Every request raises `ConnectionError` or `TimeoutError` if the server does not answer, `DeviceError` or
    a subclass for a status other than 2xx, and `RemoteProtocolError` for a response that cannot be parsed.
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
            raise UsageError(f"{host!r}:{port} is not the address of a server") from None
        self.events_url = f"ws://{authority}:{port}/ws"

    async def cameras(self) -> tuple[Camera, ...]:
        """Return all cameras that are plugged in now."""
        return parse_cameras(await self._get("/cameras"), self._base)

    async def start(self, camera: Camera, port: int, capability: Capability) -> None:
        """Have the server listen for SRT calls on ``port`` and send the camera's pictures to each caller."""
        command = StreamCommand(id=camera.id, port=port, capability=str(capability))
        await self._post("/test" if camera.is_test else "/jpeg", command.model_dump_json())

    async def stop(self, camera_id: int) -> None:
        """Stop a camera's stream."""
        await self._post("/stop", StopCommand(id=camera_id).model_dump_json())

    async def logs(self) -> tuple[str, ...]:
        """Return the names of the server's logs."""
        return parse_names(await self._get("/logs"), self._base)

    async def log(self, name: str) -> str:
        """Return one log; bytes that are not UTF-8 are replaced."""
        return clean_text((await self._get(f"/logs/{quote(name, safe='')}")).decode(errors="replace"))

    async def openapi(self) -> dict[str, Any]:
        """Return the server's OpenAPI document."""
        return parse_object(await self._get("/openapi.json"), self._base)

    async def versions(self) -> Versions:
        """Return the versions of API and server; None for those the server does not have."""
        return Versions(
            api=await self._version("/api_version"), server=await self._version("/server_version")
        )

    async def _version(self, path: str) -> str | None:
        try:
            return parse_version(await self._get(path), self._base)
        except NotFoundError:
            return None

    async def _get(self, path: str) -> bytes:
        return await self._request("GET", path)

    async def _post(self, path: str, body: str) -> None:
        # The body of the response is not specified; its status decides.
        await self._request("POST", path, data=body, headers={"Content-Type": "application/json"})

    async def _request(self, method: str, path: str, **options: Any) -> bytes:
        url = URL(self._base + path, encoded=True)
        async with self._http.request(
            method, url, timeout=self._timeout, maybe_executed=method != "GET", **options
        ) as response:
            if not 200 <= response.status < 300:
                raise status_error(response, f"{method} {path}")
            body = bytearray()
            async for chunk in response.content.iter_chunked(1 << 16):
                body += chunk
                if len(body) > MAX_RESPONSE:
                    raise RemoteProtocolError(f"{url} sent a response of more than {MAX_RESPONSE} bytes")
            return bytes(body)
