"""A take on disk: its directory (``TAKE/CAMERA/FILE``), manifest and journal. See docs/take.md.

The journal has every action that must not be forgotten, on disk before it is carried out: JSON lines, only
appended, each synced to disk. The process that runs or resumes the take holds a lock on the journal, and
removes it once the manifest says how the take ended. `replay` puts both together for a take whose process
died.
"""

import asyncio
import json
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from asynccam.errors import AsynccamError, BusyError, StateError, StorageError
from asynccam.model.event_json import plain
from asynccam.model.filenames import safe_name, unique_path
from asynccam.model.manifest import (
    MANIFEST_NAME,
    CameraRecord,
    ClockRecord,
    ClockStepRecord,
    ErrorRecord,
    FileState,
    Manifest,
    Moment,
    Outcome,
    PauseRecord,
    StartRecord,
)
from asynccam.model.safe_files import Folder, Root, confined, read_descriptor
from asynccam.outside import read_json
from asynccam.runtime.disk import absolute_path, atomic_write, on_disk, storage_errors
from asynccam.take.outcome import infer_first_frame
from asynccam.wall_clock import WALL_CLOCK, boot_id, unix_now

try:
    import fcntl
except ImportError:  # Windows has no such lock: two controllers are not kept apart there
    fcntl = None  # type: ignore[assignment]  # its absence is checked below

ALIGNMENT_NAME: Final = "align.json"
JOURNAL_NAME: Final = "journal.jsonl"
JOURNAL_VERSION: Final = 1
_MAX_BYTES: Final = 256 << 20
_MAX_DEPTH: Final = 100
"""Levels of nesting in a line. The parser takes more than pydantic writes, and a take has fewer than ten."""
_MAX_LINES: Final = 1 << 40
"""Line numbers beyond this were not written by asynccam."""
_MAX_LINES_ON_LOOP: Final = 100
"""Lines of a journal that are replayed on the loop; a longer one would block it."""
_CAMERAS_PER_TURN: Final = 32
"""Cameras of which the records are read or encoded in one turn of the event loop: some milliseconds."""
_SAVE_INTERVAL: Final = 1.0
"""Seconds between manifests while files arrive."""

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a journal, written ``at`` Unix seconds."""

    at: float
    # ``created``, ``armed``, ``starting``, ``released``, ``clock``, ``camera``, ``begun``, ``stopping``,
    # ``collecting`` or ``resumed``.
    event: str
    facts: Mapping[str, Any]  # everything else in it
    # The same moment by elapsed time in the ``boot`` of that id; both None in older journals.
    elapsed: float | None = None
    boot: str | None = None
    line: int | None = None  # line number, from 1, or None in older journals


@dataclass(slots=True, eq=False)
class _Batch:
    """Lines of a journal that go to the disk together."""

    lines: list[bytes] = field(default_factory=list)
    was_given: bool = False  # whether they were given to the thread that writes them
    error: StorageError | None = None  # why they could not be written


def _encode_line(facts: Mapping[str, object]) -> bytes:
    """Return facts as one line of JSON; ``bytes`` are JSON already."""
    # `plain` replaces what JSON cannot hold: no answer of a device may keep the line from being written.
    others = plain({name: value for name, value in facts.items() if not isinstance(value, bytes)})
    line = json.dumps(others, ensure_ascii=False).encode()[:-1]
    for name, value in facts.items():
        if isinstance(value, bytes):
            line += b", " + json.dumps(name).encode() + b": " + _on_one_line(value)
    return line + b"}\n"


def _on_one_line(document: bytes) -> bytes:
    """Return JSON without its newlines and indentation: there is no bare newline in its text."""
    return b"".join(each.lstrip() for each in document.split(b"\n"))


class Journal:
    """A take's journal, open and locked.

    Args:
        directory: The take's directory, as a path or resolved before.
    """

    def __init__(self, directory: Path | Root) -> None:
        self._root = directory if isinstance(directory, Root) else None
        self.path = (directory.given if isinstance(directory, Root) else directory) / JOURNAL_NAME
        self.lines = 0  # number of lines given to `write`, those of earlier processes included
        # Id of the computer's current boot, once the journal is open; None if the system has none.
        self.boot: str | None = None
        self._fd = -1
        self._writing = asyncio.Lock()
        self._batch = _Batch()

    @property
    def is_open(self) -> bool:
        """Return whether `write` can be called."""
        return self._fd >= 0

    async def create(self) -> None:
        """Create the journal of a new take; `StorageError` if it exists or cannot be created."""
        await on_disk(self._open, os.O_CREAT | os.O_EXCL)

    async def reopen(self, *, make: bool = True) -> tuple[Entry, ...]:
        """Open the journal of a take that no process works on, and return every line that can be read.

        A last line that was cut off when its writer ended is ignored. With ``make``, a missing journal is
        created.

        Raises:
            BusyError: Another process, or another part of this one, works on the take.
            StorageError: The journal cannot be read, or does not exist and ``make`` is False.
        """
        await on_disk(self._open, os.O_CREAT if make else 0)
        entries = await on_disk(self._read)
        self.lines = max([len(entries), *(entry.line or 0 for entry in entries)])
        return entries

    async def write(self, event: str, **facts: object) -> None:
        """Append a line, and return once it is on the disk.

        A fact that is ``bytes`` is JSON already, as `record_bytes` returns it. Lines that are given while
        others are written go to the disk together, in their order: a thousand cameras answer at the same
        moment, and each sync takes milliseconds.

        Raises:
            StateError: The journal is closed.
            StorageError: The line cannot be written.
        """
        # Wall time may be set before the take is resumed. Elapsed time cannot.
        at, elapsed = WALL_CLOCK.pair()
        self.lines += 1
        head = {"at": at, "elapsed": elapsed, "boot": self.boot, "line": self.lines, "event": event}
        batch = self._batch
        batch.lines.append(_encode_line(head | facts))
        async with self._writing:
            if not batch.was_given:  # to the disk, by the task of another of its lines
                if not self.is_open:
                    raise StateError(f"{self.path} is closed")
                batch.was_given, self._batch = True, _Batch()
                try:
                    await on_disk(self._append, batch)
                except StorageError as error:
                    batch.error = error
        if batch.error is not None:
            raise batch.error

    async def close(self, *, remove: bool) -> None:
        """Release the take, and remove the journal if it is not needed; harmless when called twice."""
        async with self._writing:
            if self.is_open:
                await on_disk(self._close, remove)

    # -- in a thread ----------------------------------------------------------------------------

    def _open(self, flags: int) -> None:
        with storage_errors("open the journal", self.path), self._folder() as folder:
            fd = folder.open(JOURNAL_NAME, os.O_RDWR | os.O_APPEND | flags)
            try:
                if fcntl is not None:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(fd).st_nlink == 0:
                    raise BlockingIOError  # the take ended at this moment and removed the journal
                folder.sync()
            except BlockingIOError:
                os.close(fd)
                raise BusyError(
                    f"the take in {self.path.parent} is at work: the process that runs or resumes it is alive"
                ) from None
            except BaseException:
                os.close(fd)
                raise
        self.boot = boot_id()
        self._fd = fd  # set in the thread, so that a cancelled caller finds it when it closes

    @contextmanager
    def _folder(self) -> Iterator[Folder]:
        """Open the take's directory, in which no link is followed."""
        if self._root is None:
            self._root = Root.of(self.path.parent)
        with confined(self._root), Folder(self._root.given) as folder:
            yield folder

    def _read(self) -> tuple[Entry, ...]:
        with storage_errors("read the journal", self.path):
            data = read_descriptor(self._fd, _MAX_BYTES, self.path)
            if data and not data.endswith(b"\n"):
                os.write(self._fd, b"\n")  # ends the line that was cut off, before the next is appended
        return read_journal(data)

    def _append(self, batch: "_Batch") -> None:
        try:
            with storage_errors("write to the journal", self.path):
                rest = memoryview(b"".join(batch.lines))
                while rest:
                    rest = rest[os.write(self._fd, rest) :]
                os.fsync(self._fd)
        except StorageError as error:
            batch.error = error  # set in the thread: a cancelled caller would not tell the others

    def _close(self, remove: bool) -> None:
        fd, self._fd = self._fd, -1
        with suppress(OSError):  # a journal that is not removed does no harm: the manifest counts
            if remove:
                with self._folder() as folder:
                    folder.remove(JOURNAL_NAME)
        with suppress(OSError):
            os.close(fd)


def read_journal(data: bytes) -> tuple[Entry, ...]:
    """Return the entries of a journal's whole content; lines that are not entries are ignored."""
    entries: list[Entry] = []
    for line in data.split(b"\n"):
        try:
            facts = read_json(line, lenient=True)
        except ValueError:
            continue
        if not isinstance(facts, dict) or not is_shallow(facts):
            continue
        at, event = facts.pop("at", None), facts.pop("event", None)
        elapsed, boot, number = (facts.pop(key, None) for key in ("elapsed", "boot", "line"))
        when = finite(at)
        if when is not None and isinstance(event, str):
            entries.append(
                Entry(
                    when,
                    event,
                    MappingProxyType(facts),
                    elapsed=finite(elapsed),
                    boot=boot if isinstance(boot, str) else None,
                    line=number if isinstance(number, int) and 0 < number < _MAX_LINES else None,
                )
            )
    return tuple(entries)


def is_shallow(value: object, depth: int = _MAX_DEPTH) -> bool:
    """Return whether a JSON value is nested no deeper than what can be written again."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return depth > 0 and all(is_shallow(each, depth - 1) for each in inner if isinstance(each, dict | list))


def finite(value: object) -> float | None:
    """Return a JSON number as a finite float; None for anything else, huge integers included."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


# -- directory and manifest -------------------------------------------------------------------------


class TakeDirectory:
    """A take's own directory; a new one for each take, so that no take writes into another.

    If the name exists, the directory becomes ``name-1``, ``name-2`` ...
    """

    def __init__(self, parent: Path, name: str) -> None:
        self.path = parent / name  # the directory, absolute once it exists
        self.root = Root(self.path, self.path)  # the same, for `asynccam.model.safe_files.confined`
        self.exists = False
        self.saving = asyncio.Lock()  # held from reading the manifest's records to their end on the disk
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
            self.path = unique_path(root / name, Path.mkdir, suffix="")
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

    async def create(self) -> None:
        """Create the journal and write the first manifest; the directory must exist."""
        self._journal = Journal(self._directory.root)
        await self._journal.create()
        document = await _encode_manifest(self.manifest, _on_one_line)
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
    async with directory.saving:
        manifest.take = directory.name
        manifest.written_at = Moment.of(unix_now())
        # Before the records are read: lines that are written meanwhile are newer than the manifest.
        manifest.journal_lines = None if journal is None else journal.lines
        await infer_in_portions(manifest)
        await directory.write_manifest(await _encode_manifest(manifest))


async def infer_in_portions(manifest: Manifest) -> None:
    """Compute every camera's first frame, see `infer_first_frame`, in several turns of the event loop."""
    for index, camera in enumerate(manifest.cameras):
        if index % _CAMERAS_PER_TURN == 0:
            await asyncio.sleep(0)
        infer_first_frame(camera, manifest)


async def _encode_manifest(manifest: Manifest, form: Callable[[bytes], bytes] = bytes) -> bytes:
    """Return a manifest as JSON, made in several turns of the event loop: it may have a thousand cameras.

    ``form`` is applied to each of its parts.
    """
    parts: list[bytes] = []
    for part in manifest.parts(_CAMERAS_PER_TURN):
        parts.append(form(part))
        await asyncio.sleep(0)
    return b"".join(parts)


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


# -- manifest and journal together ------------------------------------------------------------------


@dataclass(slots=True)
class TakeProgress:
    """Progress of a take, by its manifest and its journal."""

    manifest: Manifest
    ended: bool = False  # whether its manifest says how it ended; then only single files or cameras are left
    commanded: set[str] = field(default_factory=set)  # ids of the cameras that may have been sent a start
    may_record: set[str] = field(default_factory=set)  # ids of the cameras that may still record
    # File names that cameras announced at their starts, by id.
    names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    t0: float | None = None  # T0 in Unix seconds of this computer, or None
    start_in: float = 0.0  # seconds from the start command to T0
    # When the cameras were about to be stopped, Unix seconds, or None if they never were.
    stopping_at: float | None = None
    # Wall time and elapsed time of one moment, as the process that died counted them, or None if that was in
    # another boot of the computer, or if the journal does not say.
    scale: tuple[float, float] | None = None

    def has_work(self, record: CameraRecord) -> bool:
        """Return whether something of a camera's part is left to do."""
        return record.id in self.may_record or bool(missing_files(record)) or not self.ended

    @property
    def is_settled(self) -> bool:
        """Return whether nothing is left to do."""
        return not any(map(self.has_work, self.manifest.cameras))


def missing_files(record: CameraRecord) -> list[int]:
    """Return the indexes of the files that a device may have and that were not downloaded."""
    return [
        index
        for index, file in enumerate(record.files)
        if file.state is not FileState.ARRIVED and file.source == "device"
    ]


async def read_progress(
    manifest: Path, entries: Sequence[Entry], source: str, boot: str | None = None
) -> TakeProgress:
    """Read a manifest file, if it is readable, and `replay` a journal onto it."""
    try:
        known = await Manifest.load(manifest)
    except AsynccamError:
        known = None
    if len(entries) <= _MAX_LINES_ON_LOOP:
        return replay(known, entries, source, boot=boot)
    return await asyncio.to_thread(replay, known, entries, source, boot=boot)


def replay(
    manifest: Manifest | None, entries: Iterable[Entry], source: str, *, boot: str | None = None
) -> TakeProgress:
    """Replay a journal, which may be empty, onto the last manifest, or None if it is unreadable.

    ``boot`` is the computer's current boot, see `asynccam.wall_clock.boot_id`.

    Raises:
        StorageError: Neither says what take this is; ``source`` names it in the error.
    """
    entries = tuple(entries)
    progress = (
        None if manifest is None else TakeProgress(manifest, ended=manifest.outcome is not Outcome.RUNNING)
    )
    may_record: dict[str, bool] = {}
    indexes: dict[str, int] = {}
    for entry in entries:
        if progress is None:
            progress = _created(entry)
            continue
        if entry.event == "starting":
            _starting(progress, entry)
        elif entry.event == "released" and progress.manifest.start is None:
            progress.manifest.start = _read(StartRecord, entry.facts.get("start"))
        elif entry.event in ("camera", "begun"):
            if not indexes:
                indexes = {record.id: index for index, record in enumerate(progress.manifest.cameras)}
            _camera(progress, entry, may_record, indexes, newer=_is_newer(entry, manifest))
        elif entry.event == "stopping":
            progress.stopping_at = entry.at
        elif entry.event == "clock" and _is_newer(entry, manifest):
            _clock(progress.manifest, entry)
    if progress is None:
        raise StorageError(f"{source} has neither a manifest nor a journal that says what take it is")
    start = progress.manifest.start
    if start is not None:
        progress.t0, progress.start_in = start.t0_local.unix, start.start_in
    progress.scale = _scale(entries, boot)
    for record in progress.manifest.cameras:
        if record.commanded_at is not None:
            progress.commanded.add(record.id)
        recording = may_record.get(record.id, record.id in progress.commanded)
        # Once a take has ended in order, only a failed stop leaves a camera to be stopped.
        failed = any(error.step in ("stop", "resume") for error in record.errors)
        if record.stopped_at is None and recording and (failed or not progress.ended):
            progress.may_record.add(record.id)
    return progress


def _is_newer(entry: Entry, manifest: Manifest | None) -> bool:
    """Return whether a line is newer than the manifest; by line numbers, as the clock may have been set."""
    if manifest is None:
        return True
    if entry.line is not None and manifest.journal_lines is not None:
        return entry.line > manifest.journal_lines
    # Before lines were numbered, only their times told.
    return entry.at >= manifest.written_at.unix


def _scale(entries: Iterable[Entry], boot: str | None) -> tuple[float, float] | None:
    """Return the scale that T0 was set on, or that of the last line, if both are of the current boot."""
    now = WALL_CLOCK.elapsed()
    current = [
        entry
        for entry in entries
        if boot is not None and entry.boot == boot and entry.elapsed is not None and entry.elapsed <= now
    ]
    last = current[-1] if current else None
    chosen = next((entry for entry in current if entry.event == "starting"), last)
    return None if chosen is None or chosen.elapsed is None else (chosen.at, chosen.elapsed)


def _created(entry: Entry) -> TakeProgress | None:
    manifest = _read(Manifest, entry.facts.get("manifest")) if entry.event == "created" else None
    return None if manifest is None else TakeProgress(manifest)


def _starting(progress: TakeProgress, entry: Entry) -> None:
    cameras, start_in = entry.facts.get("cameras"), finite(entry.facts.get("start_in"))
    commanded = {key for key in cameras if isinstance(key, str)} if isinstance(cameras, list) else set()
    progress.commanded |= commanded
    if start_in is not None:
        progress.t0, progress.start_in = entry.at + start_in, start_in
    for record in progress.manifest.cameras:
        if record.id in commanded and record.commanded_at is None:
            record.commanded_at = Moment.of(entry.at)  # not earlier: files made since may be of this take


def _clock(manifest: Manifest, entry: Entry) -> None:
    reference = _read(ClockRecord, entry.facts.get("reference"))
    if reference is not None and manifest.start is not None and manifest.start.source == "ntp":
        manifest.start.clock = reference
    steps = _read_list(ClockStepRecord, entry.facts.get("clock_steps"))
    pauses = _read_list(PauseRecord, entry.facts.get("pauses"))
    manifest.clock_steps = manifest.clock_steps if steps is None else steps
    manifest.pauses = manifest.pauses if pauses is None else pauses


def _camera(
    progress: TakeProgress,
    entry: Entry,
    may_record: dict[str, bool],
    indexes: Mapping[str, int],
    *,
    newer: bool,
) -> None:
    key, names = entry.facts.get("camera"), entry.facts.get("names")
    index = indexes.get(key) if isinstance(key, str) else None
    if index is None or not isinstance(key, str):
        return
    record = _read(CameraRecord, entry.facts.get("record"))
    if newer and record is not None and record.id == key:
        progress.manifest.cameras[index] = record
    may_record[key] = bool(entry.facts.get("may_record", True))
    if isinstance(names, list):
        progress.names[key] = tuple(name for name in names if isinstance(name, str))


def _read(model: type[M], value: Any) -> M | None:
    if not isinstance(value, Mapping):
        return None
    try:
        return model.model_validate(value)
    except ValidationError:
        return None


def _read_list(model: type[M], value: Any) -> list[M] | None:
    if not isinstance(value, list):
        return None
    return [record for record in (_read(model, each) for each in value) if record is not None]
