"""asynccam's own version, for answers and for what pictures say of their maker."""

from importlib.metadata import PackageNotFoundError, version
from typing import Final


def _version() -> str:
    try:
        return version("asynccam")
    except PackageNotFoundError:  # run from sources that are not installed
        return "unknown"


VERSION: Final = _version()
"""Read once, as that takes a look at the disk."""
