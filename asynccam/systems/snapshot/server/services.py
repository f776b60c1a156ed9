"""Services that hold a device: stopped for a capture, and always started again."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from asynccam.runtime.hub import EventHub

SYSTEMCTL: Final = ("sudo", "systemctl")


class Services:
    """Stops and restarts systemd services, counting who needs them stopped.

    Args:
        journal: File that names the services that are stopped at this moment.
        command: What comes before ``stop NAME`` and ``restart NAME``.
        timeout: Seconds for one call of it.
        events: Where trouble is told, or None.
    """

    def __init__(
        self,
        journal: Path,
        *,
        command: Sequence[str] = SYSTEMCTL,
        timeout: float = 100.0,
        events: EventHub | None = None,
    ) -> None:
        raise NotImplementedError

    @property
    def stopped(self) -> tuple[str, ...]:
        """The services that are stopped at this moment."""
        raise NotImplementedError
