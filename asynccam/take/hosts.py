"""Hosts that a resumed take may show credentials to: those that a person names, not those in its manifest."""

import logging
from collections.abc import Collection, Mapping
from typing import Final, Protocol, runtime_checkable

from asynccam.model.address import Address, host_and_port
from asynccam.model.credentials import CREDENTIALS_LOG, Credentials

Hosts = Collection[str] | Mapping[str, Credentials | None]
"""``HOST`` or ``HOST:PORT``; as a mapping with credentials of their own, or None for those of the call."""

_LOG = logging.getLogger(CREDENTIALS_LOG)
_WITHHELD: Final = Credentials(environment=False)
_WITH_CREDENTIALS: Final = frozenset({"mediamtx", "snapshot", "nanocam"})


@runtime_checkable
class NamesHosts(Protocol):
    """A `Session`, which may know the credentials of a host from its fleet."""

    def credentials_at(self, address: Address) -> Credentials | None:
        """Credentials for a host that was named to the session, or None."""
        ...


class KnownHosts:
    """Decides which credentials a host gets.

    Args:
        hosts: The hosts that were named.
        credentials: For those that have none of their own.
        session: Asked for hosts that are not among them, if it is a `NamesHosts`.

    Raises:
        UsageError: One is not a host.
    """

    def __init__(self, hosts: Hosts, credentials: Credentials | None, session: object) -> None:
        named = {hosts: None} if isinstance(hosts, str) else hosts
        own = named if isinstance(named, Mapping) else dict.fromkeys(named)
        self._named = {host_and_port(name): found or credentials for name, found in own.items()}
        self._given = credentials
        self._session = session
        self._told: set[str] = set()

    def credentials_for(self, address: Address) -> Credentials | None:
        """Return the credentials that may be sent to an address; those for no host are empty.

        With None, and for a host that was named, a system's environment variables count as well.
        """
        host = address.host.lower()
        for key in ((host, address.port), (host, None)):
            if key in self._named:
                return self._named[key]
        if isinstance(self._session, NamesHosts):
            found = self._session.credentials_at(address)
            if found is not None:
                return found
        if self._given is not None and address.system in _WITH_CREDENTIALS:
            self._tell(address)
        return _WITHHELD

    def hint(self, address: Address) -> str:
        """Return what to do about a host that refused to answer without credentials, or ``""``."""
        if self.credentials_for(address) is not _WITHHELD:
            return ""
        return (
            f"; no credentials were sent to {address.authority}, which only the take names: if it is yours,"
            f" name it (--host {address.authority}, or hosts=)"
        )

    def _tell(self, address: Address) -> None:
        if address.authority not in self._told:
            self._told.add(address.authority)
            _LOG.warning(
                "the token or key is not sent to %s, which only the take names; if it is yours, name it"
                " (--host %s, or hosts=)",
                address.authority,
                address.authority,
            )
