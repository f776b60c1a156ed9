"""Digests of files: SHA-256 by default, and faster algorithms from the packages of the extra ``speed``.

A package is imported when its algorithm is asked for.
"""

import hashlib
from typing import Any, Final, Literal, Protocol, TypeAlias, TypedDict, get_args

from asynccam.errors import UsageError

DigestName: TypeAlias = Literal["sha256", "blake3", "xxh3"]
"""Algorithm of a digest. ``blake3`` and ``xxh3`` need ``asynccam[speed]``.

``sha256`` and ``blake3`` (256 bits) also detect a file that was changed on purpose. ``xxh3`` (XXH3 with 128
bits) only detects errors."""

DigestChoice: TypeAlias = DigestName | bool | None
"""An algorithm; true means SHA-256, false or None no digest."""

SHA256: Final[DigestName] = "sha256"
"""The default."""
DIGEST_NAMES: Final[tuple[DigestName, ...]] = get_args(DigestName)


class Hasher(Protocol):
    """A digest in the making, as `hashlib` has them."""

    def update(self, data: Any, /) -> object:
        """Add bytes."""
        ...

    def hexdigest(self) -> str:
        """Return the digest of all bytes so far, as lower-case hexadecimal text."""
        ...


def new_hasher(name: DigestName) -> Hasher:
    """Return a digest of no bytes yet.

    Raises:
        UsageError: There is no such algorithm, or its package is not installed.
    """
    if name == "sha256":
        return hashlib.sha256()
    if name not in DIGEST_NAMES:
        known = ", ".join(DIGEST_NAMES)
        raise UsageError(f"digest must be one of {known}, or None, not {name!r}")
    package = "blake3" if name == "blake3" else "xxhash"
    try:
        if name == "blake3":
            from blake3 import blake3

            hasher: Hasher = blake3()
        else:
            from xxhash import xxh3_128

            hasher = xxh3_128()
    except ImportError:
        raise UsageError(f'the digest {name} needs {package}: pip install "asynccam[speed]"') from None
    return hasher


def checked_digest(choice: DigestChoice) -> DigestName | None:
    """Return the algorithm of a choice, which can be computed here; None for no digest.

    Raises:
        UsageError: As of `new_hasher`.
    """
    if choice is None or choice is False:
        return None
    name: DigestName = SHA256 if choice is True else choice
    new_hasher(name)
    return name


class DigestFields(TypedDict, total=False):
    """Fields of `LocalFile` that have a digest."""

    sha256: str
    digest: str


def digest_fields(name: DigestName | None, value: str) -> DigestFields:
    """Return the fields of `LocalFile` for a digest: SHA-256 has its own, the others name their algorithm."""
    if name is None:
        return {}
    return {"sha256": value} if name == SHA256 else {"digest": f"{name}:{value}"}
