"""What a take that lost its process had come to: its manifest, and what its journal knows beyond it."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from asynccam.errors import AsynccamError, StorageError
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
from asynccam.take.journal import Entry, finite
from asynccam.wall_clock import WALL_CLOCK

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
