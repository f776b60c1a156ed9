"""Addresses and credentials of a service: from arguments, else the environment, else defaults."""

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
    """Address of a service's WebSocket, and port of its file server; ``secure`` for TLS on both."""

    host: str
    port: int
    secure: bool = False
    path: str = "/ws"
    http_port: int = FILE_PORT

    def __post_init__(self) -> None:
        if not self.host or not all(1 <= port <= 65535 for port in (self.port, self.http_port)):
            raise UsageError(
                f"not a valid service address: {self.host!r}, ports {self.port} and {self.http_port}"
            )

    @property
    def address(self) -> Address:
        """Address of the service."""
        return Address("mediamtx", self.host, self.port, secure=self.secure)

    @property
    def url(self) -> str:
        """URL of the WebSocket."""
        return f"{'wss' if self.secure else 'ws'}://{self._host}:{self.port}{self.path}"

    def file_url(self, folder: str, name: str) -> str:
        """Return the URL of a file; raise `UsageError` for the names ``""``, ``.`` and ``..``."""
        if name in ("", ".", ".."):
            raise UsageError(f"{name!r} is not a file name")
        scheme = "https" if self.secure else "http"
        return f"{scheme}://{self._host}:{self.http_port}/files/{folder}/{quote(name, safe='')}"

    @property
    def _host(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host


@dataclass(slots=True)
class ServiceCredentials:
    """Credentials of one client; ``repr`` shows no secret."""

    auth_type: str
    token: str | TokenProvider | None = field(default=None, repr=False)  # or the API key
    # ``auth_type`` and secret to use once the first secret is refused.
    second: tuple[str, str | TokenProvider] | None = field(default=None, repr=False)
    _fresh: str | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.auth_type not in AUTH_TYPES:
            raise UsageError(f"auth_type must be one of {', '.join(AUTH_TYPES)}, not {self.auth_type!r}")

    async def secret(self) -> str | None:
        """Return the token or key to use now, or None; raise `ConnectionError` if its provider failed."""
        if self.token is None or isinstance(self.token, str):
            return self.token
        fresh, self._fresh = self._fresh, None
        return fresh if fresh is not None else await self._ask(self.token)

    async def renew(self) -> None:
        """Fetch the secret for the next `secret` from the provider, if there is one; errors as there."""
        if self.token is not None and not isinstance(self.token, str):
            self._fresh = await self._ask(self.token)

    def replace(self, other: "ServiceCredentials") -> None:
        """Copy the values of other credentials."""
        self.auth_type, self.token, self._fresh = other.auth_type, other.token, None
        self.second = other.second

    def swap(self) -> bool:
        """Swap first and second secret; return False if there is no second one."""
        if self.second is None or self.token is None:
            return False
        first = self.auth_type, self.token
        (self.auth_type, self.token), self.second, self._fresh = self.second, first, None
        return True

    @property
    def has_provider(self) -> bool:
        """True if a token provider returns the token."""
        return callable(self.token)

    @staticmethod
    async def _ask(provider: TokenProvider) -> str:
        try:
            return await provider()
        except AsynccamError:
            raise
        except Exception as error:
            # Its message may hold the token, or the password that was sent for it.
            raise ConnectionError(f"the token provider failed with {type(error).__name__}") from error

    def can_renew(self, used: str | None) -> bool:
        """Return whether the next sign-in may use another secret than ``used``."""
        return self.token != used or self.second is not None

    async def headers(self) -> Mapping[str, str]:
        """Return the headers that authenticate a request to the file server."""
        secret = await self.secret()
        if secret is None:
            return {}
        return {"X-API-Key": secret} if self.auth_type == "api_key" else {"Authorization": f"Bearer {secret}"}


def endpoint(
    host: str | None, port: int | None, use_ssl: bool | None, path: str, http_port: int | None
) -> Endpoint:
    """Return the endpoint, with the environment's values for None; raise `UsageError` for invalid ones."""
    return Endpoint(
        host or os.environ.get("MEDIAMTX_HOST") or "localhost",
        _port(port, "MEDIAMTX_PORT", DEFAULT_PORT),
        _boolean("MEDIAMTX_USE_SSL") if use_ssl is None else use_ssl,
        path,
        _port(http_port, "MEDIAMTX_HTTP_PORT", FILE_PORT),
    )


def credentials(
    auth_type: str | None,
    auth_token: str | TokenProvider | None,
    api_key: str | None,
    *,
    environment: bool = True,
) -> ServiceCredentials:
    """Return the credentials, with the environment's values for None unless ``environment`` is False."""
    variables: Mapping[str, str] = os.environ if environment else {}
    token = auth_token or variables.get("MEDIAMTX_AUTH_TOKEN") or None
    key = api_key or variables.get("MEDIAMTX_API_KEY") or None
    kind = auth_type or variables.get("MEDIAMTX_AUTH_TYPE") or None
    if kind is None:  # the given secret decides
        by_key = auth_token is None and (api_key is not None or (token is None and key is not None))
        kind = "api_key" if by_key else "jwt"
    first = key if kind == "api_key" else token if kind == "jwt" else token or key
    # A secret that was passed in is not combined with one of the environment: that may be another service's.
    if auth_token is not None or api_key is not None:
        token, key = auth_token, api_key
    second = ("jwt", token) if first == key else ("api_key", key)
    return ServiceCredentials(kind, first, None if first is None or not second[1] else (second[0], second[1]))


def _port(given: int | None, name: str, default: int) -> int:
    if given is not None:
        return given
    text = os.environ.get(name) or str(default)
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"{name} must be a port, not {text!r}") from None


def _boolean(name: str) -> bool:
    text = os.environ.get(name, "").strip().lower()
    if text not in (*_TRUE, *_FALSE):
        raise UsageError(f"{name} must be true or false, not {text!r}")
    return text in _TRUE
