"""Table of the camera systems: what must be known of each before its package is loaded."""

from dataclasses import dataclass
from typing import Final

from asynccam.errors import AddressError


@dataclass(frozen=True, slots=True)
class System:
    """Facts of a camera system that need no import of its package.

    Attributes:
        name: Scheme of its addresses. The package of a built-in system has the same name.
        port: Default TCP port.
        secure_port: Default port of its TLS scheme, ``NAMEs``; None if it has none.
        is_service: An address without a camera stands for all cameras behind it.
        discoverable: Its cameras announce themselves on the network.
        has_path: Its services may be below a path of an HTTP server.
        has_http_port: Its services have a file server on a port of its own.
    """

    name: str
    port: int
    secure_port: int | None = None
    is_service: bool = False
    discoverable: bool = False
    has_path: bool = False
    has_http_port: bool = False


SYSTEMS: Final[dict[str, System]] = {
    system.name: system
    for system in (
        System("multicam", 8080, discoverable=True),
        System("mediamtx", 8002, secure_port=8002, is_service=True, has_http_port=True),
        System("thorvision", 8000, is_service=True),
        System("snapshot", 88, secure_port=443, is_service=True, has_path=True),
        System("nanocam", 7200),
    )
}
"""Every known system by name: one line each. `asynccam.systems.register` adds more."""


def system_of(name: str) -> System:
    """Return the system of this name.

    Raises:
        AddressError: The system is unknown.
    """
    try:
        return SYSTEMS[name]
    except KeyError:
        raise AddressError(f"unknown system {name!r}; known are {', '.join(SYSTEMS)}") from None


def schemes() -> dict[str, tuple[System, int, bool]]:
    """Return every address scheme: its system, its default port, and whether it is the TLS form."""
    found: dict[str, tuple[System, int, bool]] = {}
    for system in SYSTEMS.values():
        found[system.name] = (system, system.port, False)
        if system.secure_port is not None:
            found[f"{system.name}s"] = (system, system.secure_port, True)
    return found
