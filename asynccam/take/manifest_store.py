"""The folder of a take: ``TAKE/CAMERA/FILE`` and ``TAKE/manifest.json``, all touched off the loop."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from asynccam.model.filenames import safe_name, unique_path
from asynccam.model.manifest import MANIFEST_NAME
from asynccam.model.safe_files import Folder, Root, confined
from asynccam.runtime.disk import absolute_path, atomic_write, on_disk, storage_errors
from asynccam.take.journal import JOURNAL_NAME

ALIGNMENT_NAME: Final = "align.json"


class ManifestStore:
    """A take's own directory, made anew so that no take ever writes into another.

    Args:
        parent: Where takes are kept; made if need be.
        name: A safe path component; ``name-1``, ``name-2``... if that is taken.

    Attributes:
        path: The directory, absolute once it exists.
        root: The same, for `asynccam.model.safe_files.confined`: nothing outside of it is read or written.
        exists: Whether it has been made.
    """

    def __init__(self, parent: Path, name: str) -> None:
        self.path = parent / name
        self.root = Root(self.path, self.path)
        self.exists = False
        self._writing = asyncio.Lock()

    @classmethod
    def existing(cls, root: Root) -> "ManifestStore":
        """The directory of a take that was made before."""
        folder = cls(root.given.parent, root.given.name)
        folder.root = root
        folder.exists = True
        return folder

    @property
    def name(self) -> str:
        """The directory's name, which is the take's."""
        return self.path.name

    async def create(self, cameras: Sequence[str]) -> None:
        """Make the directory, with one directory for each camera.

        Args:
            cameras: Safe and distinct path components.

        Raises:
            StorageError: The disk refuses.
        """
        await on_disk(self._create, tuple(cameras))

    @property
    def manifest_path(self) -> Path:
        """Where the manifest is."""
        return self.path / MANIFEST_NAME

    async def write_manifest(self, data: bytes) -> None:
        """Replace the manifest in one step, synced to disk: a reader sees the old one or the new.

        Raises:
            StorageError: The disk refuses; the old manifest stands.
        """
        async with self._writing:  # so that of two writers the later one has the last word
            await on_disk(lambda: atomic_write(self.root.given / MANIFEST_NAME, data, root=self.root))

    def relative(self, path: Path) -> str:
        """``path`` from the take's directory with forward slashes; absolute if it is elsewhere."""
        return path.relative_to(self.path).as_posix() if path.is_relative_to(self.path) else path.as_posix()

    def _create(self, cameras: tuple[str, ...]) -> None:
        parent, name = self.path.parent, self.path.name
        with storage_errors("make the directory of a take in", parent):
            root = absolute_path(parent)
            root.mkdir(parents=True, exist_ok=True)
            self.path = unique_path(root / name, _make_directory, suffix="")
            self.exists = True  # here and not by the caller, whom a cancellation may keep from knowing
            self.root = Root.of(self.path)
            with confined(self.root):
                for camera in cameras:
                    Folder(self.path / camera, make=True).close()


def camera_directories(words: Mapping[str, str]) -> dict[str, str]:
    """The directory of each camera, which does not depend on the order in which they are given.

    Args:
        words: By id, what a camera is called.
    """
    ids = sorted(words)
    return dict(zip(ids, distinct_names([words[one] for one in ids]), strict=True))


def distinct_names(words: Sequence[str]) -> list[str]:
    """Safe path components for the given words, no two alike on any file system, in the same order."""
    taken = {MANIFEST_NAME, JOURNAL_NAME, ALIGNMENT_NAME}
    names: list[str] = []
    for word in words:
        base = name = safe_name(word, fallback="camera")
        number = 1
        while name.casefold() in taken:
            number += 1
            name = f"{base}-{number}"
        taken.add(name.casefold())
        names.append(name)
    return names


def _make_directory(path: Path) -> Path:
    path.mkdir()
    return path
