"""Secrets that stand in the environment or in files of their own, never in a fleet's file."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from asynccam.errors import AuthenticationError, StorageError, UsageError
from asynccam.runtime.disk import on_disk
from asynccam.runtime.secrets import read_secret_file

KINDS: Final = ("token", "api_key")
"""What `Credentials` hold that is secret."""


@dataclass(frozen=True, slots=True)
class SecretFile:
    """Gives a token from a file, read at every sign-in, so that whoever renews it need tell nobody.

    Attributes:
        path: The file; its first line is the secret, without white space around it.
    """

    path: Path

    async def __call__(self) -> str:
        """Read it.

        Raises:
            AuthenticationError: The file cannot be read, or holds no secret.
        """
        try:
            return await on_disk(read_secret_file, self.path)
        except (StorageError, UsageError) as error:
            raise AuthenticationError(str(error)) from error


def from_environment(name: str) -> str:
    """The secret in an environment variable.

    Raises:
        AuthenticationError: The variable is not set, or is empty.
    """
    secret = os.environ.get(name, "").strip()
    if not secret:
        raise AuthenticationError(f"the environment variable {name} is not set")
    return secret
