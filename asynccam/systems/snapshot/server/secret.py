"""Secrets, kept out of ``config.json``: it says where they are."""

import os
from pathlib import Path

from asynccam.errors import UsageError
from asynccam.runtime.disk import on_disk, read_secret_file


async def read_secret(file: str | None, variable: str | None, *, base: Path) -> str | None:
    """A secret from where the settings say it is; None when they name no place.

    Args:
        file: Its first line is the secret; relative to ``base``.
        variable: Environment variable, which is asked first.
        base: The directory of the configuration.

    Raises:
        StorageError: The file cannot be read.
        UsageError: The place is there and holds no secret.
    """
    if variable is not None:
        value = os.environ.get(variable, "")
        if value or file is None:
            return _secret(value, f"environment variable {variable}")
    if file is None:
        return None
    return await on_disk(read_secret_file, base / file)


def _secret(value: str, place: str) -> str:
    if not value:
        raise UsageError(f"{place} holds no secret")
    return value
