"""``asynccam serve``: makes this computer a device for other controllers."""

from collections.abc import Callable
from typing import Final

from asynccam.cli.commands.serve_multicam import multicam
from asynccam.cli.commands.serve_nanocam import nanocam
from asynccam.cli.commands.serve_snapshot import snapshot

SERVERS: Final[dict[str, Callable[..., None]]] = {
    "multicam": multicam,
    "nanocam": nanocam,
    "snapshot": snapshot,
}
"""What this computer can be, by the word after ``asynccam serve``."""
