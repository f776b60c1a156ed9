"""What pictures there are, in memory: a page of a hundred thousand costs no look at the disk."""

import bisect
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from asynccam.errors import UsageError

_MAX_LIMIT: Final = 1000
_Key = tuple[int, str]
"""Nanoseconds and name, which sort by age."""


@dataclass(frozen=True, slots=True)
class StoredSnapshot:
    """A picture in the store.

    Attributes:
        filename: Its name, which is one component and no path.
        camera: The camera it is of, or None where the name does not tell.
        prefix: The way it was asked for, ``snapshot`` for example, or None.
        size: Bytes.
        taken_ns: The moment of the picture, Unix nanoseconds.
    """

    filename: str
    camera: str | None
    prefix: str | None
    size: int
    taken_ns: int

    @property
    def taken_at(self) -> float:
        """The moment of the picture, Unix seconds."""
        return self.taken_ns / 1e9


@dataclass(frozen=True, slots=True)
class Page:
    """Some of the pictures, newest first.

    Attributes:
        items: The pictures.
        next: Where the next page begins, for ``after``, or None on the last one.
        total: Pictures in all, of the camera asked for.
    """

    items: tuple[StoredSnapshot, ...]
    next: str | None
    total: int


class Index:
    """Every picture, by name, by age, and by camera and age.

    Attributes:
        bytes: Of all pictures.
        own_bytes: Of those that are named like this server's.
    """

    def __init__(self, pictures: Iterable[StoredSnapshot] = ()) -> None:
        self.bytes = 0
        self.own_bytes = 0
        self._by_name = {one.filename: one for one in pictures}
        self._keys: list[_Key] = sorted(map(_key, self._by_name.values()))
        self._by_camera: dict[str | None, list[_Key]] = {}
        for key in self._keys:
            picture = self._by_name[key[1]]
            self._by_camera.setdefault(picture.camera, []).append(key)
            self._count(picture, 1)

    def __len__(self) -> int:
        return len(self._by_name)

    def __iter__(self) -> Iterator[StoredSnapshot]:
        """The pictures, oldest first."""
        return (self._by_name[name] for _, name in self._keys)

    def by_name(self) -> dict[str, StoredSnapshot]:
        """A copy of what there is."""
        return self._by_name.copy()

    def get(self, name: str) -> StoredSnapshot | None:
        """The picture of that name, or None."""
        return self._by_name.get(name)

    def add(self, picture: StoredSnapshot) -> None:
        """Take in a picture, in the place of one of the same name."""
        self.remove(picture.filename)
        self._by_name[picture.filename] = picture
        bisect.insort(self._keys, _key(picture))
        bisect.insort(self._by_camera.setdefault(picture.camera, []), _key(picture))
        self._count(picture, 1)

    def remove(self, name: str) -> StoredSnapshot | None:
        """Leave a picture out; which it was, or None."""
        picture = self._by_name.pop(name, None)
        if picture is not None:
            _drop(self._keys, _key(picture))
            _drop(self._by_camera[picture.camera], _key(picture))
            self._count(picture, -1)
        return picture

    def newest(self, camera: str) -> StoredSnapshot | None:
        """The newest picture of a camera, or None."""
        keys = self._by_camera.get(camera)
        return self._by_name[keys[-1][1]] if keys else None

    def page(self, limit: int, after: str | None, camera: str | None) -> Page:
        """See `SnapshotStore.page`."""
        if not 1 <= limit <= _MAX_LIMIT:
            raise UsageError(f"a page has 1 to {_MAX_LIMIT} pictures, not {limit}")
        keys = self._keys if camera is None else self._by_camera.get(camera, [])
        end = len(keys) if after is None else bisect.bisect_left(keys, _from_cursor(after))
        start = max(0, end - limit)
        items = tuple(self._by_name[name] for _, name in reversed(keys[start:end]))
        return Page(items, _cursor(keys[start]) if start else None, len(keys))

    def _count(self, picture: StoredSnapshot, sign: int) -> None:
        self.bytes += sign * picture.size
        if picture.prefix is not None:
            self.own_bytes += sign * picture.size


def _key(picture: StoredSnapshot) -> _Key:
    return picture.taken_ns, picture.filename


def _drop(keys: list[_Key], key: _Key) -> None:
    del keys[bisect.bisect_left(keys, key)]


def _cursor(key: _Key) -> str:
    return f"{key[0]}-{key[1]}"


def _from_cursor(text: str) -> _Key:
    number, dash, name = text.partition("-")
    if not dash or not (number.isascii() and number.isdecimal()) or len(number) > 20:
        raise UsageError(f"{text!r} is not where a page ends")
    return int(number), name
