"""A service on the local network as a plain value."""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from zeroconf import IPVersion, ServiceInfo

from asynccam.errors import UsageError
from asynccam.outside import clean_text

# RFC 6335, 5.1: at most 15 letters, digits and single hyphens inside, one letter at least.
_TYPE: Final = re.compile(
    r"_(?=[A-Za-z0-9-]{1,15}\.)(?=[0-9-]*[A-Za-z])[A-Za-z0-9]+(?:-[A-Za-z0-9]+)*\._(?:tcp|udp)\.local\."
)


@dataclass(frozen=True, slots=True)
class Service:
    """A service as it is announced now.

    Attributes:
        name: Full name, ``INSTANCE._TYPE._tcp.local.``.
        instance: Its first part, the announcer's word: any text, **not** safe as a path.
        addresses: IP addresses, at least one; IPv4 before IPv6, the newest first; link-local IPv6
            ones carry their scope (``fe80::1%2``) where it is known.
        port: TCP or UDP port.
        properties: The TXT record as far as it has come, often empty; not to be relied on.
    """

    name: str
    instance: str
    addresses: tuple[str, ...]
    port: int
    properties: Mapping[str, bytes | None] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def place(self) -> tuple[frozenset[str], int]:
        """Where it is reached, whatever the order of its addresses."""
        return frozenset(self.addresses), self.port


def service_of(info: ServiceInfo) -> Service | None:
    """What zeroconf knows of a service, or None while its port or every usable address is missing."""
    addresses = tuple(one for one in info.parsed_scoped_addresses(IPVersion.All) if is_usable(one))
    if not info.port or not addresses:
        return None
    properties = {clean_text(key.decode("ascii", "replace")): value for key, value in info.properties.items()}
    instance = instance_of(info.name, info.type)
    # The type as it was asked for; the announcer may write it in another case.
    name = f"{instance}.{info.type}"
    return Service(name, instance, addresses, info.port, MappingProxyType(properties))


def instance_of(name: str, service_type: str) -> str:
    """The part of a service's full name that stands before its type."""
    return clean_text(name[: -len(service_type) - 1])


def check_service_type(service_type: str) -> None:
    """Refuse what is no service type.

    Raises:
        UsageError: It is none.
    """
    if not _TYPE.fullmatch(service_type):
        raise UsageError(f"{service_type!r} is not a service type such as '_multicam._tcp.local.'")


def is_usable(address: str) -> bool:
    """Whether an address names one host.

    Raises:
        UsageError: It is no IP address.
    """
    ip = parse_ip(address)
    return not (ip.is_unspecified or ip.is_multicast)


def parse_ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An IP address from its text.

    Raises:
        UsageError: It is none.
    """
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        raise UsageError(f"{text!r} is not an IP address") from None
