"""Directory of a take (``TAKE/CAMERA/FILE``, ``TAKE/manifest.json``), its manifest and journal on disk."""

import asyncio
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from asynccam.errors import StorageError
from asynccam.model.filenames import safe_name, unique_path
from asynccam.model.manifest import MANIFEST_NAME, ErrorRecord, Manifest, Moment
from asynccam.model.safe_files import Folder, Root, confined
from asynccam.runtime.disk import absolute_path, atomic_write, on_disk, storage_errors
from asynccam.take.journal import JOURNAL_NAME, JOURNAL_VERSION, Journal
from asynccam.take.timing import infer_first_frames
from asynccam.wall_clock import unix_now

ALIGNMENT_NAME: Final = "align.json"
_SAVE_INTERVAL: Final = 1.0
"""Seconds between manifests while files arrive."""


class TakeDirectory:
    """A take's own directory; a new one for each take, so that no take writes into another.

    If the name exists, the directory becomes ``name-1``, ``name-2`` ...

    Attributes:
        path: The directory, absolute once it exists.
        root: The same, for `asynccam.model.safe_files.confined`.
    """

    def __init__(self, parent: Path, name: str) -> None:
        self.path = parent / name
        self.root = Root(self.path, self.path)
        self.exists = False
        self._writing = asyncio.Lock()

    @classmethod
    def existing(cls, root: Root) -> "TakeDirectory":
        """Return the directory of a take that was made before."""
        directory = cls(root.given.parent, root.given.name)
        directory.root = root
        directory.exists = True
        return directory

    @property
    def name(self) -> str:
        """Name of the directory and of the take."""
        return self.path.name

    @property
    def manifest_path(self) -> Path:
        """Path of the manifest."""
        return self.path / MANIFEST_NAME

    async def create(self, cameras: Sequence[str]) -> None:
        """Make the directory, with one for each camera (safe and distinct path components)."""
        await on_disk(self._create, tuple(cameras))

    async def write_manifest(self, data: bytes) -> None:
        """Replace the manifest in one step, synced to disk; if that fails, the old one is unchanged."""
        async with self._writing:  # two writers in threads could finish in the wrong order
            await on_disk(lambda: atomic_write(self.root.given / MANIFEST_NAME, data, root=self.root))

    def relative(self, path: Path) -> str:
        """Return a path relative to the directory, with forward slashes; absolute if it is elsewhere."""
        return path.relative_to(self.path).as_posix() if path.is_relative_to(self.path) else path.as_posix()

    def _create(self, cameras: tuple[str, ...]) -> None:
        parent, name = self.path.parent, self.path.name
        with storage_errors("make the directory of a take in", parent):
            root = absolute_path(parent)
            root.mkdir(parents=True, exist_ok=True)
            self.path = unique_path(root / name, _make_directory, suffix="")
            self.exists = True  # set in the thread: a cancelled caller would not learn of it
            self.root = Root.of(self.path)
            with confined(self.root):
                for camera in cameras:
                    Folder(self.path / camera, make=True).close()


class ManifestStore:
    """Manifest and journal of a running take, kept on disk.

    A full disk does not stop cameras that record: `note` and `save_or_record_error` put a `StorageError`
    into the manifest instead of raising it.
    """

    def __init__(self, directory: TakeDirectory, manifest: Manifest) -> None:
        self.manifest = manifest
        self._directory = directory
        self._journal: Journal | None = None
        self._saved_at = -math.inf

    def record_error(self, step: str, error: Exception) -> None:
        """Add an error that does not belong to a single camera."""
        self.manifest.errors.append(ErrorRecord.of(step, error))

    # -- the journal ----------------------------------------------------------------------------

    @property
    def has_open_journal(self) -> bool:
        """Return whether `note` writes."""
        return self._journal is not None and self._journal.is_open

    async def create(self) -> None:
        """Create the journal and write the first manifest; the directory must exist."""
        self._journal = Journal(self._directory.root)
        await self._journal.create()
        document = self.manifest.model_dump(mode="json")
        await self._journal.write("created", version=JOURNAL_VERSION, manifest=document)
        await self.save()

    async def note(self, event: str, **facts: object) -> None:
        """Write a line to the journal; harmless before `create` and after `close`."""
        if self._journal is not None and self._journal.is_open:
            try:
                await self._journal.write(event, **facts)
            except StorageError as error:
                self.record_error("journal", error)

    # -- the manifest ---------------------------------------------------------------------------

    async def save(self) -> None:
        """Write the manifest, if the take has a directory; `StorageError` if it cannot be written."""
        if self._directory.exists:
            self._saved_at = time.monotonic()
            await write_manifest(self._directory, self.manifest, self._journal)

    async def save_or_record_error(self) -> None:
        """Write the manifest between steps."""
        try:
            await self.save()
        except StorageError as error:
            self.record_error("manifest", error)

    async def save_now_and_then(self) -> None:
        """Write the manifest if the last write was more than a second ago."""
        if time.monotonic() - self._saved_at >= _SAVE_INTERVAL:
            await self.save_or_record_error()

    async def close(self, *, keep_journal: bool) -> None:
        """Write the final manifest, and remove the journal if that succeeds and it need not be kept."""
        saved = False
        try:
            await self.save()
            saved = True
        finally:
            if self._journal is not None:
                await self._journal.close(remove=saved and not keep_journal)


async def write_manifest(directory: TakeDirectory, manifest: Manifest, journal: Journal | None) -> None:
    """Bring a manifest's inferred fields up to date and write it."""
    infer_first_frames(manifest)
    manifest.take = directory.name
    manifest.written_at = Moment.of(unix_now())
    manifest.journal_lines = None if journal is None else journal.lines
    await directory.write_manifest(manifest.to_bytes())


def camera_directories(labels: Mapping[str, str]) -> dict[str, str]:
    """Return a directory name for each camera id, independent of the order of the labels (by id)."""
    ids = sorted(labels)
    return dict(zip(ids, distinct_names([labels[key] for key in ids]), strict=True))


def distinct_names(labels: Sequence[str]) -> list[str]:
    """Return safe path components for labels, distinct on every file system, in the same order."""
    used = {MANIFEST_NAME, JOURNAL_NAME, ALIGNMENT_NAME}
    names: list[str] = []
    for label in labels:
        base = name = safe_name(label, fallback="camera")
        suffix = 1
        while name.casefold() in used:
            suffix += 1
            name = f"{base}-{suffix}"
        used.add(name.casefold())
        names.append(name)
    return names


def _make_directory(path: Path) -> Path:
    path.mkdir()
    return path
