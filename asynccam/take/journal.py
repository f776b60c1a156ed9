"""The journal of a take: what was about to be done, on disk before it is done, so that a take can be resumed.

JSON lines, only ever appended to, each synced to disk. The open journal is locked: whoever holds it
is at work on the take. It goes once the manifest says how the take ended. See docs/take.md.
"""

import asyncio
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from asynccam.errors import AsynccamError, BusyError, StateError, StorageError
from asynccam.model.event_json import plain
from asynccam.model.manifest import (
    CameraRecord,
    ClockRecord,
    ClockStepRecord,
    FileState,
    Manifest,
    Moment,
    Outcome,
    PauseRecord,
    StartRecord,
)
from asynccam.model.safe_files import Folder, Root, confined, read_descriptor
from asynccam.outside import read_json
from asynccam.runtime.disk import on_disk, storage_errors
from asynccam.wall_clock import WALL_CLOCK, boot_id

try:
    import fcntl
except ImportError:  # Windows has no such lock; there, two controllers are not told apart
    fcntl = None  # type: ignore[assignment]  # the module's absence is what is asked for below

JOURNAL_NAME: Final = "journal.jsonl"
JOURNAL_VERSION: Final = 1
_MOST_BYTES: Final = 256 << 20
_DEEPEST: Final = 100
"""Levels of nesting in a line. The parser takes more than pydantic writes, and a take has fewer than ten."""
_MOST_LINES: Final = 1 << 40
"""Numbers of lines beyond this are not ours."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line.

    Attributes:
        at: When it was written, Unix seconds.
        event: What it tells of: ``created``, ``armed``, ``starting``, ``released``, ``clock``,
            ``camera``, ``stopping``, ``collecting``, ``resumed``.
        facts: Everything else in it.
        elapsed: The same moment by `asynccam.wall_clock.elapsed`, or None in older journals.
        boot: The run of the computer in which that counts, or None.
        number: Its place in the journal, from 1, or None in older journals.
    """

    at: float
    event: str
    facts: Mapping[str, Any]
    elapsed: float | None = None
    boot: str | None = None
    number: int | None = None


class Journal:
    """A take's journal, open and locked.

    Args:
        directory: The take's, as a path or resolved before.

    Attributes:
        path: The journal.
        lines: How many lines have been given to `write`, those of earlier processes included. What they
            tell was so when they were given.
    """

    def __init__(self, directory: Path | Root) -> None:
        self._root = directory if isinstance(directory, Root) else None
        self.path = (directory.given if isinstance(directory, Root) else directory) / JOURNAL_NAME
        self.lines = 0
        self._fd = -1
        self._boot: str | None = None
        self._writing = asyncio.Lock()

    @property
    def is_open(self) -> bool:
        """Whether it takes lines."""
        return self._fd >= 0

    @property
    def boot(self) -> str | None:
        """The present run of the computer, once the journal is open; None where the system does not say."""
        return self._boot

    async def create(self) -> None:
        """Make the journal of a new take.

        Raises:
            StorageError: There is one already, or the disk refuses.
        """
        await on_disk(self._open, os.O_CREAT | os.O_EXCL)

    async def reopen(self, *, make: bool = True) -> tuple[Entry, ...]:
        """Go on with the journal of a take that nobody is at work on.

        Args:
            make: Whether to make it if there is none.

        Returns:
            Every line that can be read. A last line that was cut off by the end of its writer is none.

        Raises:
            BusyError: Another process, or another part of this one, is at work on the take.
            StorageError: The disk refuses, or there is no journal and ``make`` is False.
        """
        await on_disk(self._open, os.O_CREAT if make else 0)
        entries = await on_disk(self._read)
        self.lines = max([len(entries), *(entry.number or 0 for entry in entries)])
        return entries

    async def write(self, event: str, **facts: object) -> None:
        """Append a line, and return once it is on the disk.

        Raises:
            StateError: The journal is closed.
            StorageError: The disk refuses.
        """
        # Wall time may be set before somebody resumes the take. Elapsed time cannot.
        at, elapsed = WALL_CLOCK.pair()
        self.lines += 1
        head = {"at": at, "elapsed": elapsed, "boot": self._boot, "line": self.lines, "event": event}
        # Whatever came from outside: what cannot be written is replaced, and the line is written.
        line = json.dumps(plain(head | facts), ensure_ascii=False) + "\n"
        async with self._writing:
            if not self.is_open:
                raise StateError(f"{self.path} is closed")
            await on_disk(self._append, line.encode())

    async def close(self, *, remove: bool) -> None:
        """Let go of the take; harmless when called twice.

        Args:
            remove: Whether the journal is of no more use, because the manifest tells it all.
        """
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
                    raise BlockingIOError  # the take ended in this very moment
                folder.sync()
            except BlockingIOError:
                os.close(fd)
                raise BusyError(
                    f"the take in {self.path.parent} is at work: the process that runs or resumes it is alive"
                ) from None
            except BaseException:
                os.close(fd)
                raise
        self._boot = boot_id()
        self._fd = fd  # by this thread, so that a cancelled caller finds it when it closes

    @contextmanager
    def _folder(self) -> Iterator[Folder]:
        """The take's directory, in which no link is followed."""
        if self._root is None:
            self._root = Root.of(self.path.parent)
        with confined(self._root), Folder(self._root.given) as folder:
            yield folder

    def _read(self) -> tuple[Entry, ...]:
        with storage_errors("read the journal", self.path):
            data = read_descriptor(self._fd, _MOST_BYTES, self.path)
            if data and not data.endswith(b"\n"):
                os.write(self._fd, b"\n")  # so that the next line is one
        return read_journal(data)

    def _append(self, line: bytes) -> None:
        with storage_errors("write to the journal", self.path):
            rest = memoryview(line)
            while rest:
                rest = rest[os.write(self._fd, rest) :]
            os.fsync(self._fd)

    def _close(self, remove: bool) -> None:
        fd, self._fd = self._fd, -1
        with suppress(OSError):  # a journal that stays does no harm: the manifest counts
            if remove:
                with self._folder() as folder:
                    folder.remove(JOURNAL_NAME)
        with suppress(OSError):
            os.close(fd)


def read_journal(data: bytes) -> tuple[Entry, ...]:
    """The lines of a journal; what is not one, such as a line cut short, is passed over.

    Args:
        data: The whole file.
    """
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
                    number=number if isinstance(number, int) and 0 < number < _MOST_LINES else None,
                )
            )
    return tuple(entries)


def is_shallow(value: object, depth: int = _DEEPEST) -> bool:
    """Return whether a JSON value is nested no deeper than what can be written again."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return depth > 0 and all(is_shallow(one, depth - 1) for one in inner if isinstance(one, dict | list))


def finite(value: object) -> float | None:
    """Return a JSON number as a finite float; None for anything else, huge integers included."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


M = TypeVar("M", bound=BaseModel)

_FEW: Final = 100
"""Lines of a journal that are read on the loop."""


@dataclass(slots=True)
class Leftover:
    """Where a take stands.

    Attributes:
        manifest: Everything known of it.
        ended: Whether its manifest says how it ended; what is left then are single files or cameras.
        told: Ids of the cameras that may have been sent a start.
        may_record: Ids of the cameras that may record still.
        names: What cameras said they would record, by id.
        t0: The moment cameras were told to start at, Unix seconds of this computer, or None.
        start_in: How long before that moment they were told, in seconds.
        stopping_at: When the cameras were about to be stopped, Unix seconds, or None if they never were.
        scale: Wall time and elapsed time of one moment, as the process that died counted them, or None if
            that was in another run of the computer, or if the journal does not tell.
    """

    manifest: Manifest
    ended: bool = False
    told: set[str] = field(default_factory=set)
    may_record: set[str] = field(default_factory=set)
    names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    t0: float | None = None
    start_in: float = 0.0
    stopping_at: float | None = None
    scale: tuple[float, float] | None = None

    def has_work(self, record: CameraRecord) -> bool:
        """Whether something of a camera's part is left to do."""
        return record.id in self.may_record or bool(missing_files(record)) or not self.ended

    @property
    def is_settled(self) -> bool:
        """Whether nothing is left to do."""
        return not any(map(self.has_work, self.manifest.cameras))


def missing_files(record: CameraRecord) -> list[int]:
    """Places in ``record.files`` of those that a device may have and that are not here."""
    return [
        place
        for place, file in enumerate(record.files)
        if file.state is not FileState.ARRIVED and file.source == "device"
    ]


async def read_leftover(
    manifest: Path, entries: Sequence[Entry], where: str, boot: str | None = None
) -> Leftover:
    """Read a manifest, if it can be read, and put it together with a journal.

    A long journal is seen to in a thread, since it would hold the loop.

    Args:
        manifest: The file.
        entries: As for `replay`, like the others.
        where: Names the take in the error.
        boot: The present run of the computer.

    Raises:
        StorageError: Neither says what take this is.
    """
    try:
        known = await Manifest.load(manifest)
    except AsynccamError:
        known = None
    if len(entries) <= _FEW:
        return replay(known, entries, where, boot=boot)
    return await asyncio.to_thread(replay, known, entries, where, boot=boot)


def replay(
    manifest: Manifest | None, entries: Iterable[Entry], where: str, *, boot: str | None = None
) -> Leftover:
    """Put a manifest and a journal together.

    Args:
        manifest: As it was written last, or None if it cannot be read.
        entries: The journal; empty if there is none.
        where: Names the take in the error.
        boot: The present run of the computer, see `asynccam.wall_clock.boot_id`.

    Raises:
        StorageError: Neither says what take this is.
    """
    entries = tuple(entries)
    left = None if manifest is None else Leftover(manifest, ended=manifest.outcome is not Outcome.RUNNING)
    flags: dict[str, bool] = {}
    places: dict[str, int] = {}
    for entry in entries:
        if left is None:
            left = _created(entry)
            continue
        if entry.event == "starting":
            _starting(left, entry)
        elif entry.event == "released" and left.manifest.start is None:
            left.manifest.start = _read(StartRecord, entry.facts.get("start"))
        elif entry.event in ("camera", "begun"):
            if not places:
                places = {record.id: place for place, record in enumerate(left.manifest.cameras)}
            _camera(left, entry, flags, places, newer=_is_newer(entry, manifest))
        elif entry.event == "stopping":
            left.stopping_at = entry.at
        elif entry.event == "clock" and _is_newer(entry, manifest):
            _clock(left.manifest, entry)
    if left is None:
        raise StorageError(f"{where} has neither a manifest nor a journal that says what take it is")
    if left.manifest.start is not None:
        left.t0, left.start_in = left.manifest.start.t0_local.unix, left.manifest.start.start_in
    left.scale = _scale(entries, boot)
    for record in left.manifest.cameras:
        if record.commanded_at is not None:
            left.told.add(record.id)
        if (
            record.stopped_at is None
            and flags.get(record.id, record.id in left.told)
            and _is_open(left, record)
        ):
            left.may_record.add(record.id)
    return left


def _is_newer(entry: Entry, manifest: Manifest | None) -> bool:
    """Whether a line tells more than the manifest; by their order, because the clock may have been set."""
    if manifest is None:
        return True
    if entry.number is not None and manifest.journal_lines is not None:
        return entry.number > manifest.journal_lines
    # Before lines were numbered, time was all there was to tell.
    return entry.at >= manifest.written_at.unix


def _scale(entries: Iterable[Entry], boot: str | None) -> tuple[float, float] | None:
    """The scale that T0 was set on, or that of the last line, if this computer has run on since then."""
    now = WALL_CLOCK.elapsed()
    here = [
        one
        for one in entries
        if boot is not None and one.boot == boot and one.elapsed is not None and one.elapsed <= now
    ]
    chosen = next((one for one in here if one.event == "starting"), here[-1] if here else None)
    return None if chosen is None or chosen.elapsed is None else (chosen.at, chosen.elapsed)


def _is_open(left: Leftover, record: CameraRecord) -> bool:
    """Whether a camera that was started may still have to be stopped; not once the take ended in order."""
    return not left.ended or any(error.step in ("stop", "resume") for error in record.errors)


def _created(entry: Entry) -> Leftover | None:
    manifest = _read(Manifest, entry.facts.get("manifest")) if entry.event == "created" else None
    return None if manifest is None else Leftover(manifest)


def _starting(left: Leftover, entry: Entry) -> None:
    cameras, start_in = entry.facts.get("cameras"), finite(entry.facts.get("start_in"))
    told = {key for key in cameras if isinstance(key, str)} if isinstance(cameras, list) else set()
    left.told |= told
    if start_in is not None:
        left.t0, left.start_in = entry.at + start_in, start_in
    for record in left.manifest.cameras:
        if record.id in told and record.commanded_at is None:
            record.commanded_at = Moment.of(entry.at)  # not before; files made since may be of this take


def _clock(manifest: Manifest, entry: Entry) -> None:
    steps, pauses = entry.facts.get("clock_steps"), entry.facts.get("pauses")
    reference = _read(ClockRecord, entry.facts.get("reference"))
    if reference is not None and manifest.start is not None and manifest.start.source == "ntp":
        manifest.start.clock = reference
    if isinstance(steps, list):
        read = (_read(ClockStepRecord, step) for step in steps)
        manifest.clock_steps = [step for step in read if step is not None]
    if isinstance(pauses, list):
        found = (_read(PauseRecord, pause) for pause in pauses)
        manifest.pauses = [pause for pause in found if pause is not None]


def _camera(
    left: Leftover, entry: Entry, flags: dict[str, bool], places: Mapping[str, int], *, newer: bool
) -> None:
    key, names = entry.facts.get("camera"), entry.facts.get("names")
    place = places.get(key) if isinstance(key, str) else None
    if place is None or not isinstance(key, str):
        return
    record = _read(CameraRecord, entry.facts.get("record"))
    if newer and record is not None and record.id == key:
        left.manifest.cameras[place] = record
    flags[key] = bool(entry.facts.get("may_record", True))
    if isinstance(names, list):
        left.names[key] = tuple(name for name in names if isinstance(name, str))


def _read(model: type[M], value: Any) -> M | None:
    if not isinstance(value, Mapping):
        return None
    try:
        return model.model_validate(value)
    except ValidationError:
        return None
