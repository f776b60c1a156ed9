"""Credentials of camera services."""

import ipaddress
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

TokenProvider = Callable[[], Awaitable[str]]
"""Returns a valid token; called at every authentication, so that it can renew an expired one."""

CREDENTIALS_LOG: Final = "asynccam.credentials"
"""Name of the logger of warnings about credentials: sent without encryption, or withheld from a host."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """A token or an API key, for the systems that have them; neither shows in ``repr``.

    Attributes:
        token: A JWT or other bearer token, or a provider of one.
        api_key: A key; used if no token is given.
        environment: Whether a system's own environment variables, ``MEDIAMTX_AUTH_TOKEN`` for example, are
            used for what is not given.
    """

    token: str | TokenProvider | None = field(default=None, repr=False)
    api_key: str | None = field(default=None, repr=False)
    environment: bool = True


def is_loopback(host: str) -> bool:
    """Return whether a host, as an address or by its name, is certainly this computer."""
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):  # RFC 6761, 6.3
        return True
    try:
        address = ipaddress.ip_address(name.strip("[]").partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
