"""File names: made safe from what a device says, and free ones where a name is taken."""

import re
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from asynccam.errors import StorageError

_MAX_BYTES = 200  # leaves room for "-99" and ".part" where a file system allows 255
_MAX_SUFFIX_BYTES = 20
_MAX_NAMES: Final = 100_000
"""Names that are tried: a directory that refuses every name is not tried forever."""
_FORBIDDEN = frozenset('<>:"|?*')
# Controls, formatting marks (which can turn text around), lone surrogates, line and paragraph separators.
_UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])[ ]*(\.|$)", re.IGNORECASE)


def safe_name(name: str, *, fallback: str = "file") -> str:
    """Turn a name given by a device into one path component that is safe on every system.

    Directories and drives are cut off, characters that some file system refuses become ``_``,
    leading dots and trailing dots and blanks go, names that Windows reserves get a ``_`` in front,
    and what is longer than 200 bytes of UTF-8 is shortened before its extension. A name that is
    already safe stays as it is. ``fallback`` is taken when nothing is left, and made safe too.
    """
    return _clean(name) or _clean(fallback) or "file"


def unique_path(path: Path, claim: Callable[[Path], object], *, suffix: str | None = None) -> Path:
    """Claim a path, or the first of ``NAME-1.EXT``, ``NAME-2.EXT`` ... that is free; blocking.

    ``claim`` makes a file or directory, and raises `FileExistsError` if the path is taken. Nothing is checked
    beforehand, so that two processes never get the same name. The number goes before ``suffix``, by default
    the path's own. `StorageError` if 10,000 names are taken.
    """
    end = path.suffix if suffix is None else suffix
    stem = path.name.removesuffix(end)
    for number in range(_MAX_NAMES):
        candidate = path.with_name(f"{stem}-{number}{end}") if number else path
        with suppress(FileExistsError):
            claim(candidate)
            return candidate
    raise StorageError(f"no name is free for {path}: all numbers up to {_MAX_NAMES - 1} are taken")


def _clean(name: str) -> str:
    last = re.split(r"[/\\]", unicodedata.normalize("NFC", name))[-1]
    text = _trim("".join(_replace(character) for character in last))
    if text.startswith("-"):  # would be taken for an option by the first program it is handed to
        text = "_" + text[1:]
    if _RESERVED.match(text):
        text = "_" + text
    return _shorten(text)


def _replace(character: str) -> str:
    category = unicodedata.category(character)
    if category == "Zs":
        return " "
    return "_" if category in _UNPRINTABLE or character in _FORBIDDEN else character


def _trim(text: str) -> str:
    return text.strip(" ").lstrip(" .").rstrip(" .")


def _shorten(text: str) -> str:
    if len(text.encode()) <= _MAX_BYTES:
        return text
    stem, dot, suffix = text.rpartition(".")
    if not stem or len(suffix.encode()) > _MAX_SUFFIX_BYTES:
        stem, dot, suffix = text, "", ""
    room = _MAX_BYTES - len((dot + suffix).encode())
    return _trim(stem.encode()[:room].decode(errors="ignore")) + dot + suffix
