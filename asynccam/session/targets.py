"""Where a Session's cameras are looked for, and what it says of those that are away."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from asynccam.errors import UsageError
from asynccam.model.address import Address
from asynccam.model.credentials import Credentials
from asynccam.model.systems import system_of


@dataclass(frozen=True, slots=True)
class CameraTarget:
    """An address that a Session keeps looking at: one camera, or a service with all cameras behind it.

    Attributes:
        address: Where.
        label: What a person calls the camera, or ``""``; see `Session.camera`.
        groups: Names of groups it belongs to; see `Session.group`.
        credentials: For the services that want them.
        http_port: Of the file server of a MediaMTX service; None for ``MEDIAMTX_HTTP_PORT``, or 8003.
    """

    address: Address
    label: str = ""
    groups: frozenset[str] = frozenset()
    credentials: Credentials = field(default_factory=Credentials)
    http_port: int | None = None

    @property
    def is_service(self) -> bool:
        """Whether all cameras behind the address are meant, however many.

        Raises:
            AddressError: No such system is known.
        """
        return system_of(self.address.system).is_service and not self.address.camera


@dataclass(frozen=True, slots=True)
class Unavailable:
    """A camera of a Session that does not answer now, or an address at which none has answered yet.

    Attributes:
        address: Where it was last, or is looked for.
        since: Unix seconds from which on it is away.
        error: What the last try ended with; None for a camera that said goodbye.
        tries: Tries that failed since.
    """

    address: str
    since: float
    error: Exception | None = None
    tries: int = 0

    def __str__(self) -> str:
        return f"{self.address} is away" + (f": {self.error}" if self.error is not None else "")


def places(
    given: tuple["CameraTarget | Address | str", ...],
    labelled: Mapping[str, "CameraTarget | Address | str"],
    credentials: Credentials | None,
) -> list[CameraTarget]:
    """What was given in any form, as places.

    Raises:
        AddressError: One is no address, or of a system unknown here.
        UsageError: An address or a label is given twice, a label names a whole service, or a port is none.
    """
    found = [_place(one, "", credentials) for one in given]
    found += [_place(one, label, credentials) for label, one in labelled.items()]
    check(found)
    return found


def check(found: list[CameraTarget]) -> None:
    """See that places can stand beside each other; raises as `places`."""
    addresses: set[Address] = set()
    labels: set[str] = set()
    for place in found:
        if place.is_service and place.label:
            raise UsageError(f"a label names one camera, and {place.address} may have many; use a group")
        if place.http_port is not None:
            check_http_port(place.address, place.http_port)
        if place.address in addresses:
            raise UsageError(f"{place.address} is given twice")
        if place.label in labels:
            raise UsageError(f"two cameras are labelled {place.label!r}")
        addresses.add(place.address)
        labels.update({place.label} - {""})


def check_http_port(address: Address, port: int) -> None:
    """See that an address has a file server at a port of its own.

    Raises:
        UsageError: It is none of MediaMTX, or that is no port.
    """
    if not system_of(address.system).has_http_port:
        raise UsageError(f"{address} has no file server of its own; http_port is for mediamtx only")
    if not 1 <= port <= 65535:
        raise UsageError(f"{port} is no port; http_port is 1 to 65535")


def _place(one: CameraTarget | Address | str, label: str, credentials: Credentials | None) -> CameraTarget:
    if isinstance(one, CameraTarget):
        return replace(one, label=label or one.label)
    address = Address.parse(one) if isinstance(one, str) else one
    return CameraTarget(address, label, credentials=credentials or Credentials())
