"""Host names below ``local.``, asked for by mDNS where the system's resolver does not know them."""

import zeroconf as zc
from zeroconf import DNSQuestionType, InterfaceChoice

# Public, and missing from what zeroconf says that it exports.
from zeroconf import AddressResolver  # type: ignore[attr-defined]  # isort: skip

from asynccam.net.mdns_service import reachable_addresses
from asynccam.net.mdns_sockets import Interfaces, open_zeroconf

EVERYWHERE: Interfaces = InterfaceChoice.All


async def resolve_local(host: str, *, timeout: float = 3.0) -> list[str]:
    """Ask the local network for the addresses of a host.

    Args:
        host: ``phone.local``, with or without its dot.
        timeout: Seconds to wait for an answer.

    Returns:
        IP addresses that can be reached from here, as `Service.addresses`; none if nobody answers.

    Raises:
        ConnectionError: mDNS cannot be opened.
    """
    try:
        asked = AddressResolver(f"{host.rstrip('.')}.")
    except zc.Error:  # no name on the wire
        return []
    async with open_zeroconf(interfaces=EVERYWHERE) as sockets:
        await asked.async_request(sockets.zeroconf, timeout * 1000, DNSQuestionType.QM)
    return list(reachable_addresses(asked.parsed_scoped_addresses()))
