"""What a take that lost its process had come to: its manifest, and what its journal knows beyond it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from asynccam.errors import StorageError
from asynccam.model.manifest import CameraRecord, FileState, Manifest, Moment, Outcome, StartRecord
from asynccam.take.journal import Entry

M = TypeVar("M", bound=BaseModel)


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
    """

    manifest: Manifest
    ended: bool = False
    told: set[str] = field(default_factory=set)
    may_record: set[str] = field(default_factory=set)
    names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    t0: float | None = None

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


def replay(manifest: Manifest | None, entries: Iterable[Entry], where: str) -> Leftover:
    """Put a manifest and a journal together.

    Args:
        manifest: As it was written last, or None if it cannot be read.
        entries: The journal; empty if there is none.
        where: Names the take in the error.

    Raises:
        StorageError: Neither says what take this is.
    """
    written_at = 0.0 if manifest is None else manifest.written_at.unix
    left = None if manifest is None else Leftover(manifest, ended=manifest.outcome is not Outcome.RUNNING)
    flags: dict[str, bool] = {}
    for entry in entries:
        if left is None:
            left = _created(entry)
            continue
        if entry.event == "starting":
            _starting(left, entry)
        elif entry.event == "released" and left.manifest.start is None:
            left.manifest.start = _read(StartRecord, entry.facts.get("start"))
        elif entry.event in ("camera", "begun"):
            _camera(left, entry, flags, newer=entry.at >= written_at)
    if left is None:
        raise StorageError(f"{where} has neither a manifest nor a journal that says what take it is")
    if left.manifest.start is not None:
        left.t0 = left.manifest.start.t0_computer.unix
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


def _is_open(left: Leftover, record: CameraRecord) -> bool:
    """Whether a camera that was started may still have to be stopped; not once the take ended in order."""
    return not left.ended or any(error.step in ("stop", "resume") for error in record.errors)


def _created(entry: Entry) -> Leftover | None:
    manifest = _read(Manifest, entry.facts.get("manifest")) if entry.event == "created" else None
    return None if manifest is None else Leftover(manifest)


def _starting(left: Leftover, entry: Entry) -> None:
    cameras, start_in = entry.facts.get("cameras"), entry.facts.get("start_in")
    told = {key for key in cameras if isinstance(key, str)} if isinstance(cameras, list) else set()
    left.told |= told
    if isinstance(start_in, (int, float)):
        left.t0 = entry.at + start_in
    for record in left.manifest.cameras:
        if record.id in told and record.commanded_at is None:
            record.commanded_at = Moment.of(entry.at)  # not before; files made since may be of this take


def _camera(left: Leftover, entry: Entry, flags: dict[str, bool], *, newer: bool) -> None:
    key, names = entry.facts.get("camera"), entry.facts.get("names")
    place = next((n for n, record in enumerate(left.manifest.cameras) if record.id == key), None)
    if place is None or not isinstance(key, str):
        return
    record = _read(CameraRecord, entry.facts.get("record"))
    if newer and record is not None:
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
