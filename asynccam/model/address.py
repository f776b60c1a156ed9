"""Camera addresses, ``SYSTEM://HOST[:PORT][/CAMERA]``.

A Snapshot server may be below a path: ``snapshot://HOST[:PORT][/PATH]/[CAMERA]``. The camera follows the last
slash; a slash within its name is ``%2F``.
"""

import re
from dataclasses import dataclass, replace
from urllib.parse import quote, unquote, unquote_to_bytes, urlsplit

from asynccam.errors import AddressError, UsageError
from asynccam.model.systems import SYSTEMS, schemes

_HOST = re.compile(r"[A-Za-z0-9_.:%-]+")


@dataclass(frozen=True, slots=True)
class Address:
    """Address of a camera, or of a service with cameras.

    Attributes:
        system: Name of a known system, ``multicam`` for example.
        host: Host name or IP address; an IPv6 address without brackets.
        port: TCP port, 1 to 65535.
        camera: Name of the camera on that host, decoded, or ``""`` if the host is the camera.
        secure: True for the TLS form of the scheme (``mediamtxs``, ``snapshots``).
        path: Path of the service, percent-encoded and without a slash at its end, or ``""``; only
            ``snapshot`` has one.

    Raises:
        AddressError: The system is unknown, or has no TLS form or path; the port is invalid, the path has
            segments ``.`` or ``..``, or a part is not Unicode.
    """

    system: str
    host: str
    port: int
    camera: str = ""
    secure: bool = False
    path: str = ""

    def __post_init__(self) -> None:
        system = SYSTEMS.get(self.system)
        if system is None or (self.secure and system.secure_port is None):
            raise AddressError(f"there is no {'secure ' if self.secure else ''}system {self.system!r}")
        if not 1 <= self.port <= 65535:
            raise AddressError(f"{self.port} is not a TCP port")
        if self.path:
            if not system.has_path:
                raise AddressError(f"an address of {self.system} has no path")
            object.__setattr__(self, "path", _canonical(self.path))
        if not _is_unicode(self.camera):  # from a command line that is not UTF-8
            raise AddressError(f"{self.camera!r} is not the name of a camera")

    @property
    def authority(self) -> str:
        """``HOST:PORT``, an IPv6 address in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Read ``SYSTEM://HOST[:PORT][/CAMERA]``, or ``snapshot://HOST[:PORT][/PATH]/[CAMERA]``.

        Raises:
            AddressError: The text is not such an address, names an unknown system, or has credentials
                in it (which would be logged; pass them as a token instead).
        """
        scheme, found, rest = text.partition("://")
        if not found:
            raise AddressError(f"{text!r} is not a camera address; write SYSTEM://HOST[:PORT][/CAMERA]")
        known = schemes()
        if scheme.lower() not in known:
            raise AddressError(f"unknown system {scheme!r}; known are {', '.join(known)}")
        if "@" in rest.partition("/")[0]:
            raise AddressError("a camera address carries no credentials; pass a token instead")
        system, default_port, secure = known[scheme.lower()]
        try:
            parts = urlsplit(f"//{rest}")
            port = parts.port
        except ValueError as error:
            raise AddressError(f"{text!r} is not a camera address: {error}") from None
        host = parts.hostname or ""
        if not _HOST.fullmatch(host) or parts.query or parts.fragment:
            raise AddressError(f"{text!r} is not a camera address; write SYSTEM://HOST[:PORT][/CAMERA]")
        path, camera = "", parts.path.strip("/")
        if system.has_path:
            path, _, camera = parts.path.rpartition("/")
        return cls(system.name, host, default_port if port is None else port, unquote(camera), secure, path)

    def with_camera(self, camera: str) -> "Address":
        """Return the address of another camera on the same host."""
        return replace(self, camera=camera)

    def __str__(self) -> str:
        scheme = f"{self.system}s" if self.secure else self.system
        camera = f"/{quote(self.camera, safe='')}" if self.camera or self.path else ""
        return f"{scheme}://{self.authority}{self.path}{camera}"


def host_and_port(name: str) -> tuple[str, int | None]:
    """Read ``HOST`` or ``HOST:PORT``, an IPv6 address with brackets or without; the host in lower case.

    Raises:
        UsageError: The text is neither.
    """
    text = f"[{name}]" if name.count(":") > 1 and not name.startswith("[") else name
    try:
        parts = urlsplit(f"//{text}")
        port = parts.port
    except ValueError as error:
        raise UsageError(f"{name!r} is not a host: {error}") from None
    plain = parts.netloc == text and "@" not in text and port != 0
    if not plain or not _HOST.fullmatch(parts.hostname or ""):
        raise UsageError(f"{name!r} is not a host; write HOST or HOST:PORT")
    return (parts.hostname or "").lower(), port


def _canonical(path: str) -> str:
    """Return a path in the form that is compared and written."""
    if not _is_unicode(path):
        raise AddressError(f"{path!r} is not a path")
    segments = path.rstrip("/").removeprefix("/").split("/")
    segments = [quote(unquote_to_bytes(segment), safe="") for segment in segments]
    if "." in segments or ".." in segments:
        raise AddressError(f"a path has no segments '.' or '..': {path}")
    return "/" + "/".join(segments) if path.strip("/") else ""


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)
