"""Targets: the addresses at which a Session looks for cameras, and the reasons why one is unavailable."""

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, replace

from asynccam.errors import UsageError
from asynccam.model.address import Address
from asynccam.model.credentials import Credentials
from asynccam.model.systems import system_of


@dataclass(frozen=True, slots=True, init=False)
class CameraTarget:
    """Address that a Session probes: one camera, or a service with all cameras behind it.

    ``CameraTarget("multicam://hill", label="left", groups={"yard"})``

    Attributes:
        address: Given as an `Address` or as text.
        label: A person's name for the camera, or ``""``; see `Session.camera`.
        groups: Names of its groups; see `Session.group`.
        credentials: For the services that need them.
        http_port: Port of a MediaMTX service's file server; None for ``MEDIAMTX_HTTP_PORT``, or 8003.

    Raises:
        AddressError: The text is not an address, or of an unknown system.
    """

    address: Address
    label: str
    groups: frozenset[str]
    credentials: Credentials
    http_port: int | None

    def __init__(
        self,
        address: Address | str,
        label: str = "",
        groups: Set[str] = frozenset(),
        credentials: Credentials | None = None,
        http_port: int | None = None,
    ) -> None:
        # As a dataclass writes it for frozen fields; written out, so that address may be given as text.
        object.__setattr__(self, "address", Address.parse(address) if isinstance(address, str) else address)
        object.__setattr__(self, "label", label)
        object.__setattr__(self, "groups", frozenset(groups))
        object.__setattr__(self, "credentials", credentials or Credentials())
        object.__setattr__(self, "http_port", http_port)

    @property
    def is_service(self) -> bool:
        """True if the address stands for all cameras behind it."""
        return system_of(self.address.system).is_service and not self.address.camera


@dataclass(frozen=True, slots=True)
class Unavailable:
    """Camera of a Session that does not answer now, or address at which none has answered yet.

    Attributes:
        address: Its last address, or the one that is probed.
        since: Unix seconds.
        error: Error of the last try; None for a camera that announced its leave.
        tries: Failed tries since.
    """

    address: str
    since: float
    error: Exception | None = None
    tries: int = 0

    def __str__(self) -> str:
        return f"{self.address} is unavailable" + (f": {self.error}" if self.error is not None else "")


def as_targets(
    given: Iterable[CameraTarget | Address | str],
    labelled: Mapping[str, CameraTarget | Address | str],
    credentials: Credentials | None,
) -> list[CameraTarget]:
    """Return targets for what was given in any form; ``credentials`` are for what is not a target yet.

    Raises:
        AddressError: One is not an address, or of an unknown system.
        UsageError: As `check_targets`.
    """
    found = [_as_target(target, "", credentials) for target in given]
    found += [_as_target(target, label, credentials) for label, target in labelled.items()]
    check_targets(found)
    return found


def check_targets(targets: Iterable[CameraTarget]) -> None:
    """Check that targets fit together.

    Raises:
        UsageError: An address or a label is given twice, a service has a label, or a port is invalid.
    """
    addresses: set[Address] = set()
    labels: set[str] = set()
    for target in targets:
        if target.is_service and target.label:
            raise UsageError(f"a label names one camera, and {target.address} may have many; use a group")
        if target.http_port is not None:
            check_http_port(target.address, target.http_port)
        if target.address in addresses:
            raise UsageError(f"{target.address} is given twice")
        if target.label in labels:
            raise UsageError(f"two cameras are labelled {target.label!r}")
        addresses.add(target.address)
        labels.update({target.label} - {""})


def check_http_port(address: Address, port: int) -> None:
    """Check that the service at an address may have a file server at this port, or raise `UsageError`."""
    if not system_of(address.system).has_http_port:
        raise UsageError(f"{address} has no file server of its own; http_port is for mediamtx only")
    if not 1 <= port <= 65535:
        raise UsageError(f"http_port must be 1 to 65535, not {port}")


def _as_target(
    target: CameraTarget | Address | str, label: str, credentials: Credentials | None
) -> CameraTarget:
    if isinstance(target, CameraTarget):
        return replace(target, label=label or target.label)
    return CameraTarget(target, label, credentials=credentials)
