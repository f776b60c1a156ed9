"""Identifying facts of a device, compared to detect another device at its address.

Only facts that both sides have are compared: a missing fact is unknown.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from asynccam.errors import AsynccamError, NotFoundError

_IDENTIFYING: Final = frozenset(
    {
        "bus_info",
        "card",
        "device_id",
        "driver",
        "hardware_id",
        "hostname",
        "instance_id",
        "mac",
        "mac_address",
        "machine_id",
        "manufacturer",
        "product",
        "serial",
        "serial_number",
        "server_id",
        "unique_id",
        "uuid",
        "vendor",
    }
)
"""Fields that identify a device, for services that send more than their protocol names."""
_MAX_CHARACTERS: Final = 200
"""Length of a fact: the device chooses it, and it is in every manifest."""


def identifying_facts(fields: Mapping[str, Any], **more: str) -> Mapping[str, str]:
    """Return the known identifying fields of what a device sent, and facts that the caller adds.

    One level of mappings inside is read as well. Empty facts are left out.
    """
    facts = dict(more)
    for source in (fields, *(value for value in fields.values() if isinstance(value, Mapping))):
        for key, value in source.items():
            name = str(key).lower()
            if name in _IDENTIFYING and isinstance(value, str | int) and not isinstance(value, bool):
                facts.setdefault(name, str(value))
    return MappingProxyType({key: value[:_MAX_CHARACTERS] for key, value in facts.items() if value})


class Identity:
    """Facts known of one device since it was first connected.

    ``error`` makes the exception for another device, from its message.
    """

    def __init__(
        self, facts: Mapping[str, str], *, error: Callable[[str], AsynccamError] = NotFoundError
    ) -> None:
        self._facts = dict(facts)
        self._error = error

    @property
    def facts(self) -> Mapping[str, str]:
        """Known facts; empty if the device sends none."""
        return MappingProxyType(self._facts)

    def check(self, address: str, received: Mapping[str, str]) -> None:
        """Check the facts received from an address, and add those that are new.

        Raises:
            NotFoundError: Another device answered, or the exception that ``error`` makes.
        """
        problem = device_mismatch(address, self._facts, received)
        if problem:
            raise self._error(problem)
        self._facts = {**received, **self._facts}


def device_mismatch(address: str, known: Mapping[str, str], received: Mapping[str, str]) -> str:
    """Return a message that names both devices if another one answers at an address, else ``""``."""
    names = [key for key in known if key in received and known[key] != received[key]]
    if not names:
        return ""
    now = ", ".join(f"{name} {received[name]!r}" for name in names)
    before = ", ".join(f"{name} {known[name]!r}" for name in names)
    return (
        f"another device is at {address}: {now}, not {before};"
        f" if that one is meant, remove the camera from the session and connect anew"
    )
