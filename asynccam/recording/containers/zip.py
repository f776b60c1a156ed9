"""Reader of ZIP archives (PKWARE APPNOTE.TXT 6.3) with video in them, as OAK devices send their recordings.

Python's own zipfile is not used: it loads the whole directory at once and has no bound for it, nor for
the size that an entry expands to. Nothing is written anywhere, so names of entries are only ever shown.
"""

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from asynccam.recording.containers.jpeg import is_jpeg
from asynccam.recording.containers.raw_video import PictureCounter, find_codec
from asynccam.recording.containers.reader import CutShortError, FileView, Scan

_LOCAL: Final = b"PK\x03\x04"
_ENTRY: Final = b"PK\x01\x02"
_END: Final = b"PK\x05\x06"
_END_64: Final = b"PK\x06\x06"
_LOCATOR_64: Final = b"PK\x06\x07"
_END_SIZE: Final = 22
_ENTRY_SIZE: Final = 46
_LOCAL_SIZE: Final = 30
_COMMENT: Final = 0xFFFF  # bytes of a comment behind the end record, at most (4.3.16)
_ZIP_64: Final = 0x0001  # id of the extra field with 64-bit numbers (4.5.3)
_STORED: Final = 0
_DEFLATED: Final = 8
_PACKED_CHUNK: Final = 1 << 16
_MAX_BEHIND: Final = 1 << 26  # bytes behind an archive in which its end is looked for, at most
_UNPACKED_CHUNK: Final = 1 << 20
# Video hardly shrinks and text about it some twenty times; an entry that grows more is an attack.
_MAX_GROWTH: Final = 64
_GROWTH_FREE: Final = 1 << 26  # bytes that any archive may expand to
_VIDEO_NAME: Final = re.compile(
    r"\.(h26[45]|26[45]|hevc|avc|mp4|m4v|mov|mkv|webm|ts|m2ts|avi|flv|jpe?g|mjpe?g)\Z", re.IGNORECASE
)


class _DamageError(Exception):
    """The archive contradicts itself; never leaves this module."""


class _UnsupportedError(Exception):
    """The archive is not one that is read here; never leaves this module."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """An entry of the directory (4.3.12)."""

    name: str
    flags: int
    method: int
    checksum: int
    packed: int
    size: int
    offset: int


@dataclass(frozen=True, slots=True)
class _Directory:
    """Place of the directory, and the bytes behind the archive."""

    begin: int
    end: int
    entries: int
    behind: int


@dataclass(slots=True)
class _Contents:
    """Contents of the entries."""

    entries: int = 0
    videos: int = 0  # number of entries that are video
    frames: int | None = None  # pictures in the first of them, or None if they are not counted
    spoiled: str = ""  # name of an entry with zeros within its pictures, or ``""``


def is_zip(head: bytes) -> bool:
    """Return whether a file that begins so is a ZIP archive."""
    return head.startswith((_LOCAL, _END))


def scan_zip(view: FileView) -> Scan:
    """Check the directory and every entry's checksum, and count the pictures of the first video."""
    contents = _Contents()
    try:
        directory = _find_directory(view)
        if directory is None:
            return _without_directory(view)
        left = view.size
        growth = 0
        for entry in _entries(view, directory):
            left -= entry.packed
            growth += entry.size
            if left < 0:
                raise _DamageError("has entries that overlap")
            if growth > max(_MAX_GROWTH * view.size, _GROWTH_FREE):
                raise _UnsupportedError(f"expands to {growth} bytes and more, which is not read")
            _read_entry(view, entry, directory, contents)
    except _UnsupportedError as error:
        return Scan(None, None, note=str(error), understood=False)
    except _DamageError as error:
        return Scan(None, None, damaged=str(error))
    except CutShortError:
        return Scan(None, None, damaged="has a directory with invalid offsets")
    if not contents.entries:
        return Scan(0, None, note="holds no file")
    if not contents.videos:
        return Scan(None, None, note="is a ZIP archive without video", understood=False)
    damaged = f"has zeros within the pictures of {contents.spoiled}" if contents.spoiled else ""
    note = f"has {directory.behind} bytes behind its end" if directory.behind else ""
    return Scan(contents.frames, None, damaged=damaged, note=note)


def _find_end(view: FileView) -> int | None:
    """Return the offset of the last end of central directory record, or None."""
    limit = view.size
    for length in (_END_SIZE + _COMMENT + _PACKED_CHUNK, _MAX_BEHIND):
        base = max(0, view.size - length)
        tail = view.read_some(base, limit - base)
        at = len(tail)
        while (at := tail.rfind(_END, 0, at)) >= 0:
            record = tail[at : at + _END_SIZE]
            if len(record) < _END_SIZE or base + at + _END_SIZE + _uint(record, 20, 2) > view.size:
                continue
            # Far from the end of the file there may be anything: its directory has to be there as well.
            if limit == view.size or _uint(record, 12, 4) + _uint(record, 16, 4) == base + at:
                return base + at
        if not base:
            return None
        limit = base + _END_SIZE
    return None


def _find_directory(view: FileView) -> _Directory | None:
    """Read the end of central directory record (4.3.16) and that of ZIP64 (4.3.14); None if there is none."""
    place = _find_end(view)
    if place is None:
        return None
    record = view.read(place, _END_SIZE)
    end = place + _END_SIZE + _uint(record, 20, 2)
    entries, size, begin = _uint(record, 10, 2), _uint(record, 12, 4), _uint(record, 16, 4)
    stop = place
    # 4.3.15: its locator is right before; some writers add it even where the numbers would fit.
    locator = view.read(place - 20, 20) if place >= 20 else b""
    if locator[:4] == _LOCATOR_64:
        stop = _uint(locator, 8, 8)
        record = view.read(stop, 56) if stop <= place - 76 else b""
        if record[:4] != _END_64:
            raise _DamageError("has a directory with invalid offsets")
        entries, size, begin = _uint(record, 32, 8), _uint(record, 40, 8), _uint(record, 48, 8)
    if begin + size != stop:
        # The directory of an archive within this one, or bytes that were taken out or put in.
        raise _DamageError("has a directory that is not where its end record says")
    return _Directory(begin, stop, entries, view.size - end)


def _entries(view: FileView, directory: _Directory) -> Iterator[_Entry]:
    offset = directory.begin
    for _ in range(directory.entries):
        if offset + _ENTRY_SIZE > directory.end:
            raise _DamageError("has a directory that is too short")
        record = view.read(offset, _ENTRY_SIZE)
        if record[:4] != _ENTRY:
            raise _DamageError("has a spoiled directory")
        name, extra, comment = (_uint(record, at, 2) for at in (28, 30, 32))
        rest = view.read(offset + _ENTRY_SIZE, name + extra)
        offset += _ENTRY_SIZE + name + extra + comment
        size, packed, place = _uint(record, 24, 4), _uint(record, 20, 4), _uint(record, 42, 4)
        if 0xFFFFFFFF in (size, packed, place):
            size, packed, place = _large_numbers(rest[name:], size, packed, place)
        flags, method = _uint(record, 8, 2), _uint(record, 10, 2)
        yield _Entry(_printable(rest[:name], flags), flags, method, _uint(record, 16, 4), packed, size, place)
    if offset != directory.end:
        raise _DamageError("has a spoiled directory")


def _large_numbers(extra: bytes, *numbers: int) -> list[int]:
    """4.5.3: numbers that do not fit are in an extra field, in this order."""
    found = list(numbers)
    while len(extra) >= 4:
        kind, length = _uint(extra, 0, 2), _uint(extra, 2, 2)
        body, extra = extra[4 : 4 + length], extra[4 + length :]
        if kind == _ZIP_64:
            for index, number in enumerate(found):
                if number == 0xFFFFFFFF and len(body) >= 8:
                    found[index], body = _uint(body, 0, 8), body[8:]
    return found


def _read_entry(view: FileView, entry: _Entry, directory: _Directory, contents: _Contents) -> None:
    if entry.name.endswith("/") and not entry.size:
        return  # a directory
    contents.entries += 1
    if entry.flags & 1:
        raise _UnsupportedError("is encrypted")
    if entry.method not in (_STORED, _DEFLATED):
        raise _UnsupportedError(f"is packed by method {entry.method}, which is not understood")
    if entry.offset > directory.begin:
        raise _DamageError(f"does not hold {entry.name} where it says")
    header = view.read(entry.offset, _LOCAL_SIZE)
    begin = entry.offset + _LOCAL_SIZE + _uint(header, 26, 2) + _uint(header, 28, 2)
    if header[:4] != _LOCAL or begin + entry.packed > directory.begin:
        raise _DamageError(f"does not hold {entry.name} where it says")
    checksum = size = 0
    counter: PictureCounter | None = None
    is_video = _VIDEO_NAME.search(entry.name) is not None
    for data in _unpacked(view, entry, begin):
        if not size:
            codec = find_codec(data)
            is_video = is_video or codec is not None or is_jpeg(data)
            counter = PictureCounter(codec) if codec is not None and not contents.videos else None
        checksum, size = zlib.crc32(data, checksum), size + len(data)
        if size > entry.size:
            break
        if counter is not None:
            counter.feed(data)
    if (size, checksum) != (entry.size, entry.checksum):
        raise _DamageError(f"has a wrong checksum for {entry.name}")
    if not is_video:
        return
    contents.videos += 1
    if contents.videos == 1:
        contents.frames = counter.pictures if counter is not None else None if size else 0
    if counter is not None and counter.has_zeros:
        contents.spoiled = entry.name


def _unpacked(view: FileView, entry: _Entry, begin: int) -> Iterator[bytes]:
    """Yield the bytes of an entry, in pieces."""
    end = begin + entry.packed
    if entry.method == _STORED:
        for offset in range(begin, end, _UNPACKED_CHUNK):
            yield view.read_some(offset, min(_UNPACKED_CHUNK, end - offset))
        return
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        for offset in range(begin, end, _PACKED_CHUNK):
            data = view.read_some(offset, min(_PACKED_CHUNK, end - offset))
            while data and not inflater.eof:
                piece = inflater.decompress(data, _UNPACKED_CHUNK)
                data = inflater.unconsumed_tail
                if piece:
                    yield piece
        while not inflater.eof and (piece := inflater.decompress(b"", _UNPACKED_CHUNK)):
            yield piece
    except zlib.error:
        raise _DamageError(f"has spoiled data in {entry.name}") from None


def _without_directory(view: FileView) -> Scan:
    """Scan an archive by its first entries: it is cut off, if it is one with video at all."""
    truncated = "is cut off before its directory"
    offset = 0
    try:
        while (header := view.read(offset, _LOCAL_SIZE))[:4] == _LOCAL:
            length = _uint(header, 26, 2)
            name = _printable(view.read(offset + _LOCAL_SIZE, length), _uint(header, 6, 2))
            begin = offset + _LOCAL_SIZE + length + _uint(header, 28, 2)
            if _VIDEO_NAME.search(name) or find_codec(view.read_some(begin, _PACKED_CHUNK)) is not None:
                return Scan(None, None, truncated=truncated)
            if _uint(header, 6, 2) & 8:  # 4.4.4: its size follows its data
                break
            offset = begin + _uint(header, 18, 4)
    except CutShortError:
        pass
    return Scan(None, None, note=f"is a ZIP archive that {truncated}", understood=False)


def _uint(data: bytes, at: int, length: int) -> int:
    return int.from_bytes(data[at : at + length], "little")


def _printable(name: bytes, flags: int) -> str:
    """Return a printable name. APPENDIX D: it is UTF-8 where bit 11 says so."""
    text = name.decode("utf-8" if flags & 0x800 else "cp437", "replace")
    return "".join(letter if letter.isprintable() else "?" for letter in text)[-120:]
