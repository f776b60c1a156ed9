"""Facts that a device tells of itself, compared so that another device at its address is noticed.

Only what both sides tell is compared: a fact that is missing is unknown, and neither the same nor another.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from asynccam.errors import AsynccamError, NotFoundError

_TELLING: Final = frozenset(
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
"""Fields that say which device it is, where a service sends more than its protocol names."""
_LONGEST: Final = 200
"""Characters of a fact that are kept: it is a device's word, and stands in every manifest."""


def identifying_facts(fields: Mapping[str, Any], **more: str) -> Mapping[str, str]:
    """Return what a device tells of itself: known identifying fields, and others that the caller names.

    Args:
        fields: What the device sent, by its own names; one level of mappings inside is read as well.
        more: Facts that the system's protocol names; empty ones are left out.
    """
    facts = dict(more)
    for source in (fields, *(value for value in fields.values() if isinstance(value, Mapping))):
        for key, value in source.items():
            if str(key).lower() in _TELLING and isinstance(value, str | int) and not isinstance(value, bool):
                facts.setdefault(str(key).lower(), str(value))
    return MappingProxyType({key: value[:_LONGEST] for key, value in facts.items() if value})


def differing(known: Mapping[str, str], told: Mapping[str, str]) -> tuple[str, ...]:
    """Return the names of the facts that both tell and that differ."""
    return tuple(key for key in known if key in told and known[key] != told[key])


class Identity:
    """Facts known of one device since it was met, or armed first.

    Args:
        facts: What it has told.
        error: Makes the error for another device, from its text.
    """

    def __init__(
        self, facts: Mapping[str, str], *, error: Callable[[str], AsynccamError] = NotFoundError
    ) -> None:
        self._facts = dict(facts)
        self._error = error

    @property
    def facts(self) -> Mapping[str, str]:
        """What is known; empty if the device tells nothing."""
        return MappingProxyType(self._facts)

    def check(self, where: str, told: Mapping[str, str]) -> None:
        """Refuse another device, and learn what the known one tells for the first time.

        Args:
            where: The address that was asked.
            told: What was answered there.

        Raises:
            NotFoundError: Another device answers; or what the caller's system raises for it.
        """
        problem = device_mismatch(where, self._facts, told)
        if problem:
            raise self._error(problem)
        self._facts = {**told, **self._facts}


def device_mismatch(where: str, known: Mapping[str, str], told: Mapping[str, str]) -> str:
    """Return the words that name both devices if another one answers at an address, else ``""``."""
    names = differing(known, told)
    if not names:
        return ""
    now = ", ".join(f"{name} {told[name]!r}" for name in names)
    before = ", ".join(f"{name} {known[name]!r}" for name in names)
    return (
        f"another device is at {where}: {now}, not {before};"
        f" if that one is meant, remove the camera from the session and connect anew"
    )
