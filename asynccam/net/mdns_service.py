"""A service on the local network as a plain value."""

import ipaddress
import re
import socket
from collections.abc import Iterable, Mapping
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
class MdnsService:
    """A service as it is announced now.

    Attributes:
        name: Full name, ``INSTANCE._TYPE._tcp.local.``.
        instance: Its first part, the announcer's word: any text, **not** safe as a path.
        addresses: IP addresses, at least one; IPv4 before IPv6, the newest first, and link-local ones last.
            Those of IPv6 carry the number of the interface they were heard on (``fe80::1%2``) and are left
            out where it is not known; those of IPv4 (``169.254.0.0/16``) are left out where this computer
            has no such address of its own to reach them from.
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


def service_of(info: ServiceInfo, *, ours: bool = False) -> MdnsService | None:
    """What zeroconf knows of a service, or None while its port or every usable address is missing.

    Args:
        info: As zeroconf has it.
        ours: Whether this computer announces it, so that every address of it is told.
    """
    told = info.parsed_scoped_addresses(IPVersion.All)
    addresses = tuple(filter(is_usable, told)) if ours else reachable_addresses(told)
    if not info.port or not addresses:
        return None
    properties = {clean_text(key.decode("ascii", "replace")): value for key, value in info.properties.items()}
    instance = instance_of(info.name, info.type)
    # The type as it was asked for; the announcer may write it in another case.
    name = f"{instance}.{info.type}"
    return MdnsService(name, instance, addresses, info.port, MappingProxyType(properties))


def reachable_addresses(addresses: Iterable[str]) -> tuple[str, ...]:
    """Return the addresses that name one host from here, in their order, link-local ones last."""
    usable = [one for one in addresses if is_usable(one)]
    local = {one for one in usable if parse_ip(one).is_link_local}
    return (
        *(one for one in usable if one not in local),
        *(one for one in usable if one in local and _is_on_link(one)),
    )


def _is_on_link(address: str) -> bool:
    """Return whether a link-local address can be meant: the same one may exist on every link."""
    if ":" in address:
        return "%" in address
    # RFC 3927, 2.6.2: it is reached on its link only, where this computer has one of them as well.
    # Connecting a datagram socket sends nothing; it chooses a route and the address to send from.
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.connect((address, 9))
            return parse_ip(sock.getsockname()[0]).is_link_local
    except OSError:
        return False


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
