"""HTTP requests to a ThorVision server, one method each. See docs/protocols/thorvision.md."""

from typing import Any, Final

from yarl import URL

from asynccam.errors import RemoteProtocolError, UsageError
from asynccam.net.http import HttpClient, status_error
from asynccam.systems.thorvision.models import (
    Camera,
    Capability,
    StopCommand,
    StreamCommand,
    parse_cameras,
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
            self.base_url = str(URL(f"http://{authority}:{port}"))
        except ValueError:
            raise UsageError(f"{host!r}:{port} is not the address of a server") from None
        self.events_url = f"ws://{authority}:{port}/ws"

    async def cameras(self) -> tuple[Camera, ...]:
        """Return all cameras that are plugged in now."""
        return parse_cameras(await self.get("/cameras"), self.base_url)

    async def start(self, camera: Camera, port: int, capability: Capability) -> None:
        """Have the server listen for SRT calls on ``port`` and send the camera's pictures to each caller."""
        command = StreamCommand(id=camera.id, port=port, capability=str(capability))
        await self._post("/test" if camera.is_test else "/jpeg", command.model_dump_json())

    async def stop(self, camera_id: int) -> None:
        """Stop a camera's stream."""
        await self._post("/stop", StopCommand(id=camera_id).model_dump_json())

    async def get(self, path: str) -> bytes:
        """Return the body of the response to a GET."""
        return await self._request("GET", path)

    async def _post(self, path: str, body: str) -> None:
        # The body of the response is not specified; its status decides.
        await self._request("POST", path, data=body, headers={"Content-Type": "application/json"})

    async def _request(self, method: str, path: str, **options: Any) -> bytes:
        url = URL(self.base_url + path, encoded=True)
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
