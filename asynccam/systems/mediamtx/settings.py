"""Where a service is and how to sign in: arguments first, then the environment, then defaults."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote

from asynccam.errors import AsynccamError, UsageError
from asynccam.model.address import Address
from asynccam.model.credentials import TokenProvider
from asynccam.systems.mediamtx.errors import ConnectionError

DEFAULT_PORT: Final = 8080
FILE_PORT: Final = 8003
AUTH_TYPES: Final = ("jwt", "api_key", "auto")
_TRUE: Final = ("1", "true", "yes", "on")
_FALSE: Final = ("", "0", "false", "no", "off")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a service listens.

    Attributes:
        host: Name or address.
        port: Of the WebSocket.
        secure: Whether both speak TLS.
        path: Of the WebSocket.
        http_port: Of the file server.
    """

    host: str
    port: int
    secure: bool = False
    path: str = "/ws"
    http_port: int = FILE_PORT

    def __post_init__(self) -> None:
        if not self.host or not all(1 <= port <= 65535 for port in (self.port, self.http_port)):
            raise UsageError(
                f"not where a service can be: {self.host!r}, ports {self.port} and {self.http_port}"
            )

    @property
    def address(self) -> Address:
        """The service as an asynccam address."""
        return Address("mediamtx", self.host, self.port, secure=self.secure)

    @property
    def url(self) -> str:
        """The WebSocket's URL."""
        return f"{'wss' if self.secure else 'ws'}://{self._host}:{self.port}{self.path}"

    @property
    def scheme(self) -> str:
        """Of the file server."""
        return "https" if self.secure else "http"

    def file_url(self, folder: str, name: str) -> str:
        """The URL of a file, whatever its name holds.

        Raises:
            UsageError: No file can have this name.
        """
        if name in ("", ".", ".."):
            raise UsageError(f"{name!r} names no file")
        return f"{self.scheme}://{self._host}:{self.http_port}/files/{folder}/{quote(name, safe='')}"

    @property
    def _host(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host


@dataclass(slots=True)
class Credentials:
    """What the client signs in with; nothing of it shows in ``repr``.

    Attributes:
        auth_type: ``jwt``, ``api_key`` or ``auto``.
        token: The token, its provider, or the key.
        second: Another secret and its ``auth_type``, used once the first one is refused; or None.
    """

    auth_type: str
    token: str | TokenProvider | None = field(default=None, repr=False)
    second: tuple[str, str | TokenProvider] | None = field(default=None, repr=False)
    _fresh: str | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.auth_type not in AUTH_TYPES:
            raise UsageError(f"auth_type is one of {', '.join(AUTH_TYPES)}, not {self.auth_type!r}")

    async def secret(self) -> str | None:
        """The token or key to use now, or None without credentials.

        Raises:
            ConnectionError: The token provider failed, for the moment.
        """
        if self.token is None or isinstance(self.token, str):
            return self.token
        fresh, self._fresh = self._fresh, None
        return fresh if fresh is not None else await self._ask(self.token)

    async def renew(self) -> str | None:
        """Get what to use from the next sign-in on; a provider's token is kept for that one.

        Raises:
            ConnectionError: The token provider failed, for the moment.
        """
        if self.token is None or isinstance(self.token, str):
            return self.token
        self._fresh = fresh = await self._ask(self.token)
        return fresh

    def replace(self, other: "Credentials") -> None:
        """Use those of another from now on."""
        self.auth_type, self.token, self._fresh = other.auth_type, other.token, None
        self.second = other.second

    def turn(self) -> bool:
        """Use the second secret from now on, and keep the first one as the second; False if there is none."""
        if self.second is None or self.token is None:
            return False
        first = self.auth_type, self.token
        (self.auth_type, self.token), self.second, self._fresh = self.second, first, None
        return True

    @property
    def provided(self) -> bool:
        """Return whether a provider gives the token."""
        return callable(self.token)

    @staticmethod
    async def _ask(provider: TokenProvider) -> str:
        try:
            return await provider()
        except AsynccamError:
            raise
        except Exception as error:
            # Its words may hold the token or the password it was asked for with.
            raise ConnectionError(f"the token provider failed with {type(error).__name__}") from error

    def renewable(self, used: str | None) -> bool:
        """Whether another sign-in would use something else than ``used``, as far as can be told."""
        return self.token != used or self.second is not None

    async def headers(self) -> Mapping[str, str]:
        """What the file server wants to see."""
        secret = await self.secret()
        if secret is None:
            return {}
        return {"X-API-Key": secret} if self.auth_type == "api_key" else {"Authorization": f"Bearer {secret}"}


def endpoint(
    host: str | None, port: int | None, use_ssl: bool | None, path: str, http_port: int | None
) -> Endpoint:
    """Where the service is; what is None comes from the environment.

    Raises:
        UsageError: The environment holds what makes no sense.
    """
    return Endpoint(
        host or os.environ.get("MEDIAMTX_HOST") or "localhost",
        _port(port, "MEDIAMTX_PORT", DEFAULT_PORT),
        _truth("MEDIAMTX_USE_SSL") if use_ssl is None else use_ssl,
        path,
        _port(http_port, "MEDIAMTX_HTTP_PORT", FILE_PORT),
    )


def credentials(
    auth_type: str | None,
    auth_token: str | TokenProvider | None,
    api_key: str | None,
    *,
    environment: bool = True,
) -> Credentials:
    """What to sign in with; what is None comes from the environment, unless that is to be left alone.

    Raises:
        UsageError: No such ``auth_type``.
    """
    variables: Mapping[str, str] = os.environ if environment else {}
    token = auth_token or variables.get("MEDIAMTX_AUTH_TOKEN") or None
    key = api_key or variables.get("MEDIAMTX_API_KEY") or None
    kind = auth_type or variables.get("MEDIAMTX_AUTH_TYPE") or None
    if kind is None:  # said nothing: what was handed over decides
        by_key = auth_token is None and (api_key is not None or (token is None and key is not None))
        kind = "api_key" if by_key else "jwt"
    first = key if kind == "api_key" else token if kind == "jwt" else token or key
    # One that was handed over is not joined by one of the environment, which may be another service's.
    if auth_token is not None or api_key is not None:
        token, key = auth_token, api_key
    other = ("jwt", token) if first == key else ("api_key", key)
    return Credentials(kind, first, None if first is None or not other[1] else (other[0], other[1]))


def _port(given: int | None, name: str, default: int) -> int:
    if given is not None:
        return given
    text = os.environ.get(name) or str(default)
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"{name} is {text!r}, which is no port") from None


def _truth(name: str) -> bool:
    text = os.environ.get(name, "").strip().lower()
    if text not in (*_TRUE, *_FALSE):
        raise UsageError(f"{name} is {text!r}; write true or false")
    return text in _TRUE
