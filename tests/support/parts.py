"""What a directory of downloads holds, and data that shows every misplaced byte."""

import hashlib
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def sample(size: int, seed: int = 0) -> bytes:
    """Bytes that repeat at no power of two, so that a lost or doubled block cannot go unseen."""
    block = hashlib.sha256(bytes([seed % 256])).digest() * 31 + bytes([seed % 256])
    return (block * (size // len(block) + 1))[:size]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def contents(directory: Path) -> dict[str, bytes]:
    """Every file by name."""
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@contextmanager
def longest_file(size: int) -> Iterator[None]:
    """A disk that refuses every byte past ``size``, as a full one does."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
