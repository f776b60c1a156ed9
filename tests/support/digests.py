"""Digests by the packages themselves, for comparison."""

import hashlib

from asynccam.model.digest import DigestName


def digest_of(name: DigestName | None, data: bytes) -> str:
    """Return the digest of bytes, ``""`` for no algorithm."""
    if name is None:
        return ""
    if name == "sha256":
        return hashlib.sha256(data).hexdigest()
    if name == "blake3":
        from blake3 import blake3

        return str(blake3(data).hexdigest())
    from xxhash import xxh3_128

    return str(xxh3_128(data).hexdigest())
