"""Secrets in files of their own: one rule for what such a file may hold."""

from pathlib import Path
from typing import Final

from asynccam.errors import UsageError
from asynccam.runtime.disk import storage_errors

_MAX_BYTES: Final = 64 * 1024
"""A larger file holds something else."""


def read_secret_file(path: Path) -> str:
    """Return the secret in a file, its first line that is not blank, without white space around it; blocking.

    Raises:
        StorageError: The file cannot be read.
        UsageError: The file holds no secret: it is empty, larger than 64 KiB or not text.
    """
    with storage_errors("read the secret in", path), path.open("rb") as file:
        data = file.read(_MAX_BYTES + 1)
    try:
        secret = data.decode().strip().partition("\n")[0].rstrip()
    except UnicodeDecodeError:
        raise UsageError(f"{path} holds no secret: it is not UTF-8") from None
    if not secret or len(data) > _MAX_BYTES or any(ord(c) < 32 and c != "\t" for c in secret):
        raise UsageError(f"{path} holds no secret: its first line must be the secret, as text")
    return secret
