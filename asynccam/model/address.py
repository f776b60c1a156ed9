"""Camera addresses: ``SYSTEM://HOST[:PORT][/CAMERA]``, the one way a camera is named by hand."""

import re
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import quote, unquote, urlsplit

from asynccam.errors import AddressError

# scheme -> (system, TLS, default port)
SCHEMES: Final[dict[str, tuple[str, bool, int]]] = {
    "multicam": ("multicam", False, 8080),
    "mediamtx": ("mediamtx", False, 8002),
    "mediamtxs": ("mediamtx", True, 8002),
    "thorvision": ("thorvision", False, 8000),
    "snapshot": ("snapshot", False, 88),
    "snapshots": ("snapshot", True, 443),
    "nanocam": ("nanocam", False, 7200),
}
_HOST = re.compile(r"[A-Za-z0-9_.:%-]+")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a camera, or a service with cameras, is reached.

    Attributes:
        system: One of the five systems, ``multicam`` for example.
        host: Host name or IP address; an IPv6 address stands without brackets.
        port: TCP port, 1 to 65535.
        camera: The camera on that host, decoded, or ``""`` where the host is the camera.
        secure: True for the TLS form of the scheme (``mediamtxs``, ``snapshots``).

    Raises:
        AddressError: There is no such system, it has no TLS form, or the port is none.
    """

    system: str
    host: str
    port: int
    camera: str = ""
    secure: bool = False

    def __post_init__(self) -> None:
        if not any((self.system, self.secure) == known[:2] for known in SCHEMES.values()):
            raise AddressError(f"there is no {'secure ' if self.secure else ''}system {self.system!r}")
        if not 1 <= self.port <= 65535:
            raise AddressError(f"{self.port} is not a TCP port")

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Read ``SYSTEM://HOST[:PORT][/CAMERA]``.

        Raises:
            AddressError: The text is not such an address, names an unknown system, or carries
                credentials (which would end up in logs; hand them over as a token instead).
        """
        scheme, found, rest = text.partition("://")
        if not found:
            raise AddressError(f"{text!r} is not a camera address; write SYSTEM://HOST[:PORT][/CAMERA]")
        if scheme.lower() not in SCHEMES:
            raise AddressError(f"unknown system {scheme!r}; known are {', '.join(SCHEMES)}")
        if "@" in rest.partition("/")[0]:
            raise AddressError("a camera address carries no credentials; pass a token instead")
        system, secure, default_port = SCHEMES[scheme.lower()]
        try:
            parts = urlsplit(f"//{rest}")
            port = parts.port
        except ValueError as error:
            raise AddressError(f"{text!r} is not a camera address: {error}") from None
        host = parts.hostname or ""
        if not _HOST.fullmatch(host) or parts.query or parts.fragment:
            raise AddressError(f"{text!r} is not a camera address; write SYSTEM://HOST[:PORT][/CAMERA]")
        return cls(
            system, host, default_port if port is None else port, unquote(parts.path.strip("/")), secure
        )

    def with_camera(self, camera: str) -> "Address":
        """The same host, another camera on it."""
        return replace(self, camera=camera)

    def __str__(self) -> str:
        scheme = next(
            name for name, (sys, tls, _) in SCHEMES.items() if (sys, tls) == (self.system, self.secure)
        )
        host = f"[{self.host}]" if ":" in self.host else self.host
        camera = f"/{quote(self.camera, safe='')}" if self.camera else ""
        return f"{scheme}://{host}:{self.port}{camera}"
