"""Secrets that stand in the environment or in files of their own, never in a fleet's file."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from asynccam.errors import AuthenticationError, StorageError
from asynccam.runtime.disk import on_disk, storage_errors

_LARGEST: Final = 64 * 1024
"""Bytes of a secret; a larger file is surely another one."""

KINDS: Final = ("token", "api_key")
"""What `Credentials` hold that is secret."""


@dataclass(frozen=True, slots=True)
class SecretFile:
    """Gives a token from a file, read at every sign-in, so that whoever renews it need tell nobody.

    Attributes:
        path: The file; white space around the secret is not part of it.
    """

    path: Path

    async def __call__(self) -> str:
        """Read it.

        Raises:
            AuthenticationError: The file cannot be read, or holds no secret.
        """
        try:
            return await on_disk(read_secret, self.path)
        except StorageError as error:
            raise AuthenticationError(str(error)) from error


def read_secret(path: Path) -> str:
    """The secret in a file; blocks.

    Raises:
        StorageError: The file cannot be read, or holds no secret.
    """
    with storage_errors("read the secret in", path), path.open("rb") as file:
        data = file.read(_LARGEST + 1)
    try:
        secret = data.decode().strip()
    except UnicodeDecodeError:
        secret = ""
    if not secret or len(data) > _LARGEST or not secret.isprintable():
        raise StorageError(f"{path} holds no secret: it should be one line of text")
    return secret


def from_environment(name: str) -> str:
    """The secret in an environment variable.

    Raises:
        AuthenticationError: The variable is not set, or is empty.
    """
    secret = os.environ.get(name, "").strip()
    if not secret:
        raise AuthenticationError(f"the environment variable {name} is not set")
    return secret
