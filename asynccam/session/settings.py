"""Settings of a Session, as `Session` takes them and a fleet file has them."""

from typing import TYPE_CHECKING, TypedDict

from asynccam.runtime.retry import Backoff

if TYPE_CHECKING:  # imported by SharedResources when first needed
    from aiohttp import ClientSession
    from zeroconf.asyncio import AsyncZeroconf

    from asynccam.net.mdns import Interfaces


class SessionSettings(TypedDict, total=False):
    """Arguments of `Session`, for `Session.open` to pass on."""

    http: "ClientSession | None"
    zeroconf: "AsyncZeroconf | None"
    interfaces: "Interfaces | None"
    ntp_server: str | None
    fail_fast: bool
    shutdown_timeout: float
    poll_interval: float | None
    backoff: Backoff | None
