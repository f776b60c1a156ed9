"""Manifest of a take: results of each camera and file, as UTF-8 JSON in ``manifest.json``.

Times are of **this computer's** clock unless a field says otherwise. docs/take.md explains every field,
docs/manifest.schema.json is the JSON schema.
"""

import asyncio
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Literal, Self, TypeVar

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticSerializationError

from asynccam.errors import RetryableError, StorageError
from asynccam.model.coverage import SINGLE_FRAME_INTERVAL
from asynccam.model.event_json import plain
from asynccam.model.info import CheckResult, ClockOffset
from asynccam.model.intervals import ClockLine, fit_line
from asynccam.model.safe_files import Root, confined, read_file
from asynccam.outside import MAX_DEPTH, MAX_TEXT, clean_json, clean_text, is_bounded
from asynccam.wall_clock import unix_now

MANIFEST_NAME: Final = "manifest.json"
MANIFEST_VERSION: Final = 2
_MAX_BYTES: Final = 64 << 20
"""Maximum size of a manifest; one with ten thousand files has about ten million bytes."""
_MAX_REPAIRS: Final = 4
_NO_CAMERAS: Final = b'\n  "cameras": []'
"""Stands once in the JSON of a manifest: all other text is indented further or has no bare newline."""
_INDENTATION: Final = b"\n    "
_MAX_POINTS: Final = 24
"""Measurements kept of one clock: a line through them is fitted at every save of the manifest."""


class Outcome(StrEnum):
    """Outcome of a take, or of one camera's part in it."""

    RUNNING = "running"
    COMPLETE = "complete"
    INCOMPLETE = "incomplete"
    FAILED = "failed"
    CANCELLED = "cancelled"
    RESUMED = "resumed"


class FileState(StrEnum):
    """State of a recorded file."""

    PENDING = "pending"
    ARRIVED = "arrived"
    FAILED = "failed"


class Record(BaseModel):
    """Base of all parts of a manifest: any text and number is accepted, and can be written.

    Text is cleaned (see `asynccam.outside`) and cut to 16,384 characters. A number that is not finite, or an
    integer of more than 64 bits, is null where the field may be null, and invalid elsewhere. Fields that a
    later version adds are kept, so that an older reader can write the file back.
    """

    model_config = ConfigDict(extra="allow", allow_inf_nan=False, ser_json_inf_nan="constants")

    @model_validator(mode="before")
    @classmethod
    def _clean(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        return {name: _bounded(value) for name, value in data.items()}


def optional(description: str) -> Any:
    """Return a field that is null by default."""
    return Field(default=None, description=description)


def empty_list(description: str) -> Any:
    """Return a field that is an empty list by default."""
    return Field(default_factory=list, description=description)


class Moment(Record):
    """A point in time, for programs and for people."""

    unix: float = Field(description="Unix seconds, with fraction.")
    utc: str = Field(description="The same time as ISO 8601 in UTC to the millisecond.")

    @classmethod
    def of(cls, unix: float) -> Self:
        """Return the moment ``unix`` seconds after 1970; ``utc`` is empty outside of the calendar."""
        try:
            text = datetime.fromtimestamp(unix, UTC).isoformat(timespec="milliseconds")
        except (OverflowError, ValueError, OSError):
            return cls(unix=unix if is_bounded(unix) else 0.0, utc="")
        return cls(unix=unix, utc=text.replace("+00:00", "Z"))

    @classmethod
    def maybe(cls, unix: float | None) -> Self | None:
        """Return the moment, or None for None."""
        return None if unix is None else cls.of(unix)


class ErrorRecord(Record):
    """One error."""

    step: str = Field(
        description="Step that failed: clock, arm, start, stop, collect, verify, or one of the take itself."
    )
    error: str = Field(description="Name of the exception's class.")
    message: str = Field(description="The error message.")
    retryable: bool = Field(description="Whether the same step may succeed later.")
    at: Moment = Field(description="Time of the error.")

    @classmethod
    def of(cls, step: str, error: Exception) -> Self:
        """Return a record of an exception, noticed now."""
        return cls(
            step=step,
            error=type(error).__name__,
            message=str(error) or type(error).__name__,
            retryable=isinstance(error, RetryableError),
            at=Moment.of(unix_now()),
        )


class ClockPoint(Record):
    """One measurement of a clock."""

    offset: float = Field(description="Other clock minus this computer's at measured_at, in seconds.")
    bound: float = Field(description="Uncertainty of this measurement alone, in seconds.")
    round_trip: float = Field(description="Its shortest round trip, in seconds.")
    samples: int = Field(description="Number of usable answers.")
    measured_at: Moment = Field(description="Time for which this offset holds.")
    resolution: float = Field(default=0.0, description="Step of the other clock's stamps, in seconds.")
    consistent: bool = Field(default=True, description="Whether all its answers can be from one clock.")

    @classmethod
    def of(cls, clock: ClockOffset) -> Self:
        """Return a measured offset as a record."""
        fields: dict[str, Any] = {name: getattr(clock, name) for name in cls.model_fields}
        fields["measured_at"] = Moment.of(clock.measured_at)
        return cls(**fields)

    def clock_offset(self) -> ClockOffset:
        """Return the record as a measured offset."""
        fields: dict[str, Any] = {name: getattr(self, name) for name in type(self).model_fields}
        fields["measured_at"] = self.measured_at.unix
        return ClockOffset(**fields)


class ClockRecord(Record):
    """One clock compared with this computer's: offset at one time, and a line if it was measured often."""

    offset: float = Field(description="Other clock minus this computer's at measured_at, in seconds.")
    bound: float = Field(description="The true offset lies within offset plus or minus this, in seconds.")
    round_trip: float = Field(description="Shortest round trip seen, in seconds.")
    samples: int = Field(description="Number of usable answers of all measurements.")
    measured_at: Moment = Field(description="Time for which the offset holds: that of the first measurement.")
    resolution: float = Field(
        default=0.0, description="Coarsest step of the other clock's stamps, in seconds; part of bound."
    )
    consistent: bool = Field(
        default=True, description="Whether all answers of all measurements can be from one clock."
    )
    drift: float | None = optional(
        "Seconds per second by which the other clock runs faster; null if measured once."
    )
    drift_bound: float | None = optional(
        "The mean drift lies within drift plus or minus this; null like drift."
    )
    points: list[ClockPoint] = empty_list("The measurements, by time, at most 24; empty in version 1.")
    rejected: list[ClockPoint] = empty_list(
        "Measurements of a time server that contradict the points, not used; the first 24."
    )

    @classmethod
    def of(cls, *measurements: ClockOffset) -> Self:
        """Return a record of measured offsets of one clock, at least one, with the line through them."""
        line = fit_line(measurements)
        first = line.measurements[0]
        several = len(line.measurements) > 1
        # The first measurement as it is, unless the line is narrower or has to cover a contradiction.
        at_first = line.interval(first.measured_at)
        by_line = several and (not line.consistent or at_first.bound < first.bound)
        return cls(
            offset=at_first.middle if by_line else first.offset,
            bound=at_first.bound if by_line else first.bound,
            round_trip=min(each.round_trip for each in measurements),
            samples=sum(each.samples for each in measurements),
            measured_at=Moment.of(first.measured_at),
            resolution=max(each.resolution for each in measurements),
            consistent=line.consistent,
            drift=line.rate if several else None,
            drift_bound=line.rate_bound if several else None,
            points=[ClockPoint.of(each) for each in line.measurements],
        )

    def with_measurement(self, measurement: ClockOffset) -> Self:
        """Return the record with a measurement added; of many, every second is dropped (wider bounds)."""
        points = self._points()
        if len(points) >= _MAX_POINTS:
            points = [points[0], *points[1:-1:2], points[-1]]
        made = type(self).of(*(point.clock_offset() for point in points), measurement)
        made.samples = self.samples + measurement.samples
        made.consistent = made.consistent and self.consistent
        made.rejected = self.rejected
        return made

    def with_rejected(self, measurement: ClockOffset) -> Self:
        """Return the record with a measurement that is recorded but not used."""
        rejected = [*self.rejected, ClockPoint.of(measurement)][:_MAX_POINTS]
        return self.model_copy(update={"rejected": rejected})

    def line(self) -> ClockLine:
        """Return the offset over time, with its bound at every time."""
        return fit_line([point.clock_offset() for point in self._points()])

    def _points(self) -> list[ClockPoint]:
        if self.points:
            return self.points
        # Version 1: the record is its only measurement.
        return [ClockPoint(**{name: getattr(self, name) for name in ClockPoint.model_fields})]


class StartRecord(Record):
    """T0: the moment that every camera was to start at."""

    t0: Moment = Field(description="T0 by the reference clock; scheduled cameras were sent exactly this.")
    # Manifests and journals written before the field was renamed have t0_computer.
    t0_local: Moment = Field(
        description="T0 by this computer's clock.", validation_alias=AliasChoices("t0_local", "t0_computer")
    )
    source: Literal["system", "ntp"] = Field(description="The reference clock: this computer's, or NTP.")
    server: str | None = optional("The NTP server asked, if any.")
    clock: ClockRecord | None = optional("NTP time minus this computer's; null for source system.")
    start_in: float = Field(description="Seconds from the start command to T0.")
    tolerance: float | None = optional("Seconds after T0 that a start may leave late; null if not judged.")


class VerdictRecord(Record):
    """Result of checking a video file."""

    verdict: str = Field(description="complete, truncated, damaged, empty or unknown.")
    frames: int | None = optional("Number of video frames that a player shows; null if unknown.")
    duration: float | None = optional("Presentation time of these frames in seconds; null if unknown.")
    detail: str = Field(default="", description="What is wrong or remarkable.")

    @classmethod
    def of(cls, result: CheckResult) -> Self:
        """Return a record of a check's result."""
        return cls(
            verdict=str(result.verdict.value),
            frames=result.frames,
            duration=result.duration,
            detail=result.detail,
        )

    @property
    def is_failure(self) -> bool:
        """Return whether the file is known to be incomplete; unknown verdicts count as failures."""
        return self.verdict not in ("complete", "unknown")

    @property
    def frame_interval(self) -> float:
        """Mean seconds between two frames; assumed for fewer than two."""
        frames = self.frames or 0
        return (self.duration or 0.0) / frames if frames > 1 else SINGLE_FRAME_INTERVAL


class FileRecord(Record):
    """One recorded file."""

    name: str = Field(description="The camera's own name for the file; never a path.")
    id: str = Field(
        default="", description="A second name by which the camera serves the file, if it has one."
    )
    source: Literal["device", "local"] = Field(
        description="Downloaded from the device, or recorded on this computer."
    )
    state: FileState = Field(default=FileState.PENDING, description="pending, arrived or failed.")
    path: str | None = optional("Path relative to the take's directory, with forward slashes.")
    size: int | None = optional("Bytes; until the download, as the camera announced.")
    sha256: str | None = optional("Lower-case hexadecimal digest.")
    digest: str | None = optional("Digest by another algorithm, as blake3:HEX or xxh3:HEX.")
    seconds: float | None = optional("Seconds that the transfer took.")
    part: str | None = optional("Part file of an interrupted transfer, like path.")
    received: int | None = optional("Bytes in the part file.")
    verdict: VerdictRecord | None = optional("Null if the file was not checked.")


class GapRecord(Record):
    """A stretch of time in which a camera is known not to have recorded."""

    began_at: Moment = Field(description="Last moment known to be recorded.")
    ended_at: Moment | None = optional("First moment recorded again, or null.")
    restarted: bool = Field(default=False, description="Whether a new file was begun after it.")
    reason: str = Field(default="", description="Reason, in words.")


class LateBeginRecord(Record):
    """Begin of a video that begins clearly after the start."""

    at: Moment = Field(description="Time of its first frame.")
    seconds: float = Field(description="Seconds missing from the start to there.")
    reason: str = Field(default="", description="Reason, in words.")


class EarlyEndRecord(Record):
    """End of a video that ends clearly before the stop."""

    at: Moment = Field(description="Time of its last frame.")
    seconds: float = Field(description="Seconds missing from there to the stop.")
    reason: str = Field(default="", description="Reason, in words.")


class ClockStepRecord(Record):
    """A step of this computer's clock during the take; the times in the manifest do not follow it."""

    at: Moment = Field(description="When the step was noticed, on the scale of all times here.")
    seconds: float = Field(description="Seconds the clock was set by; above 0 for forward.")


class PauseRecord(Record):
    """A stretch of time in which the program that ran the take did not run."""

    at: Moment = Field(description="When the program last ran.")
    seconds: float = Field(description="Seconds that the program did not run.")
    slept: bool = Field(
        description="Whether the computer slept; false for a stopped process or a blocked event loop."
    )

    @property
    def cause(self) -> str:
        """Cause of the pause, in words."""
        return "this computer slept" if self.slept else "the program did not run"


class DeviceMomentRecord(Record):
    """A time by a device's own clock."""

    unix: float = Field(description="Unix seconds of the device's clock, not of this computer's.")
    bound: float | None = optional("Uncertainty that the device states, in seconds.")


FirstFrameSource = Literal["seen", "device", "answer", "schedule", "status", "length"]
"""Sources of a first frame's time, the closest to the frame itself first."""


class EvidenceRecord(Record):
    """One piece of evidence on the time of a camera's first frame."""

    source: str = Field(
        description="command, answer, schedule, status, device, length, or seen by a recorder here."
    )
    earliest: Moment | None = optional("The first frame was not before this; null if unknown.")
    latest: Moment | None = optional("The first frame was not after this; null if unknown.")
    assumed: bool = Field(
        default=False, description="Whether it rests on an assumption instead of an observation."
    )


class CameraRecord(Record):
    """One camera's part in the take."""

    id: str = Field(description="Stable identity, such as multicam://Mountain-A1B2C3D4.")
    name: str = Field(description="Name to display.")
    system: str = Field(description="One of the five systems.")
    serial: str = Field(default="", description="The device's own identifier.")
    model: str = Field(default="", description="Kind of device.")
    address: str = Field(default="", description="Address where it was last reached.")
    identity: dict[str, str] = Field(
        default_factory=dict,
        description="Facts that detect another device at its address; empty if unknown.",
    )
    directory: str = Field(description="Its directory, relative to the take's directory.")
    features: list[str] = empty_list("Names of its features.")
    kind: Literal["video", "still"] = Field(
        default="video", description="Kind of recording: video, or one still picture at T0."
    )
    outcome: Outcome = Field(default=Outcome.RUNNING, description="Outcome of its part.")
    clock: ClockRecord | None = optional("Its clock minus this computer's.")
    commanded_at: Moment | None = optional("When the start command left this computer.")
    start_lateness: float | None = optional(
        "Seconds after T0 at which the start left; below 0 for one that was sent ahead."
    )
    accepted_at: Moment | None = optional("When the answer to the start arrived.")
    scheduled_for: Moment | None = optional("Scheduled start by its own clock; null for at once.")
    first_frame_at: Moment | None = optional("Time of the first frame; null if it has no upper limit.")
    first_frame_bound: float | None = optional(
        "The first frame lies within first_frame_at plus or minus this, seconds."
    )
    first_frame_source: FirstFrameSource | None = optional(
        "Strongest evidence for it: seen, device, answer, schedule, status, length; or null."
    )
    answer_meaning: Literal["recording", "scheduled", "heard"] | None = optional(
        "Meaning of the answer to the start: recording has begun, will begin, or start heard."
    )
    already_recording: bool = Field(
        default=False, description="Whether it reported at the start that it was recording already."
    )
    took_over: bool = Field(
        default=False,
        description="Whether arming took it over from another program that it was streaming for.",
    )
    device_first_frame: DeviceMomentRecord | None = optional(
        "Its first frame as it reports it, by its own clock; null if it does not."
    )
    evidence: list[EvidenceRecord] = empty_list("All evidence on the time of its first frame.")
    contradictions: list[str] = empty_list("Evidence that excludes other evidence; the bound covers both.")
    contradictions_seen: list[str] = empty_list("Contradictions found by a recorder on this computer.")
    stop_commanded_at: Moment | None = optional("When the stop command left this computer.")
    stopped_at: Moment | None = optional("When the answer to the stop arrived.")
    start_status: str = Field(default="", description="The camera's own status text for its start.")
    stop_status: str = Field(default="", description="The camera's own status text for its stop.")
    files: list[FileRecord] = empty_list("Files that it recorded.")
    gaps: list[GapRecord] = empty_list("Known gaps; empty if there is no known gap.")
    begins_late: LateBeginRecord | None = optional(
        "Its video begins clearly after the start; null if that is not known."
    )
    ended_early: EarlyEndRecord | None = optional(
        "Its video ends clearly before the stop; null if that is not known."
    )
    spoiled_frames: int | None = optional(
        "Pictures that arrived damaged and are not in the files; null if not counted."
    )
    frame_drift: float = Field(
        default=0.0,
        description="Seconds per second by which times in files recorded here may drift.",
    )
    errors: list[ErrorRecord] = empty_list("Errors, in order.")

    @property
    def verdicts(self) -> list[VerdictRecord]:
        """Verdicts on the files that arrived and were checked."""
        return [file.verdict for file in self.files if file.state is FileState.ARRIVED and file.verdict]


class MissingRecord(Record):
    """A camera, or an address, that was to take part and was unavailable when the take was made."""

    id: str = Field(default="", description="Stable identity; empty if no camera has answered there yet.")
    name: str = Field(default="", description="Name to display; empty if unknown.")
    label: str = Field(default="", description="Label that a person gave it.")
    address: str = Field(description="Address where it was expected.")
    since: Moment | None = optional("Since when it was unavailable; null if unknown.")
    reason: str = Field(default="", description="Why it was unavailable.")


class Manifest(Record):
    """Manifest of a take."""

    format: Literal["asynccam-take"] = Field(default="asynccam-take", description="Always asynccam-take.")
    version: int = Field(default=MANIFEST_VERSION, description="Raised when a field changes its meaning.")
    asynccam: str = Field(default="", description="Version of asynccam that wrote it.")
    take: str = Field(description="Name of the take and of its directory.")
    outcome: Outcome = Field(default=Outcome.RUNNING, description="running until the take has ended.")
    phase: str = Field(description="Phase of the take when this was written.")
    created_at: Moment = Field(description="When the take was armed.")
    written_at: Moment = Field(description="When this was written.")
    duration: float | None = optional("Seconds asked for; null if stopped by hand.")
    digest: str | None = Field(
        default="sha256", description="Algorithm of the files' digests: sha256, blake3, xxh3; null for none."
    )
    start: StartRecord | None = optional("T0; null before it was set.")
    resumed: list[Moment] = empty_list(
        "Times at which it was resumed after its process had died; empty if never."
    )
    clock_steps: list[ClockStepRecord] = empty_list("Steps of this computer's clock; the first thousand.")
    pauses: list[PauseRecord] = empty_list("Times when the program did not run; the first thousand.")
    journal_lines: int | None = optional("Number of journal lines that this covers; null in older manifests.")
    cameras: list[CameraRecord] = empty_list("Every camera of the take.")
    missing: list[MissingRecord] = empty_list(
        "Cameras that were to take part and were unavailable; empty if none was missing."
    )
    errors: list[ErrorRecord] = empty_list("Errors that do not belong to a single camera.")

    def started_late(self, camera: CameraRecord) -> bool:
        """Return whether a camera's start left later than ``start.tolerance`` after T0."""
        tolerance = None if self.start is None else self.start.tolerance
        lateness = camera.start_lateness
        return tolerance is not None and lateness is not None and lateness > tolerance

    def to_bytes(self) -> bytes:
        """Return the manifest as it is written to disk."""
        return b"".join(self.parts())

    def parts(self, cameras: int = 64) -> Iterator[bytes]:
        """Yield what `to_bytes` returns in pieces, each of them with at most so many ``cameras``.

        A piece has the state of its cameras at the moment it is made.
        """
        if not self.cameras:
            yield record_bytes(self)
            return
        head, marker, tail = record_bytes(self.model_copy(update={"cameras": []})).partition(_NO_CAMERAS)
        yield head + marker[:-1]
        for index in range(0, len(self.cameras), cameras):
            piece = b",".join(
                b"\n" + record_bytes(camera)[:-1] for camera in self.cameras[index : index + cameras]
            )
            yield (b"," if index else b"") + piece.replace(b"\n", _INDENTATION)
        yield b"\n  ]" + tail

    @classmethod
    def from_bytes(cls, data: bytes, *, source: str = "these bytes") -> Self:
        """Return the manifest that `to_bytes` wrote; ``source`` names it in errors.

        Raises:
            StorageError: The bytes are not a manifest, or one of an unknown version.
        """
        try:
            manifest = cls.model_validate_json(clean_json(data))
        except RecursionError:
            raise StorageError(f"{source} is not the manifest of a take: it is nested too deeply") from None
        except ValidationError as error:
            first = error.errors(include_input=False)[0]
            where = ".".join(str(step) for step in first["loc"]) or "the whole"
            raise StorageError(f"{source} is not the manifest of a take: {where}: {first['msg']}") from None
        except ValueError as error:
            raise StorageError(f"{source} is not the manifest of a take: {error}") from None
        if manifest.version > MANIFEST_VERSION:
            raise StorageError(
                f"{source} is a manifest of version {manifest.version}; known are up to {MANIFEST_VERSION}"
            )
        return manifest

    @classmethod
    async def load(cls, path: str | Path) -> Self:
        """Read ``manifest.json``, or the one in a take's directory, without blocking the loop.

        Raises:
            StorageError: It cannot be read, is not a regular file or a manifest, or has an unknown version.
        """
        where = Path(path)
        try:
            return await asyncio.to_thread(_load, cls, where)
        except OSError as error:
            raise StorageError(f"cannot read the manifest {where}: {error.strerror or error}") from error


M = TypeVar("M", bound=Manifest)


def record_bytes(record: Record) -> bytes:
    """Return a record as the JSON of a file; this cannot fail for what was assigned to its fields.

    Text that cannot be written is cleaned. A number or object that a reader would refuse becomes null or the
    field's default.
    """
    with suppress(PydanticSerializationError, UnicodeError, ValueError, RecursionError):
        data = record.model_dump_json(indent=2, warnings="error").encode()
        if not (b"NaN" in data or b"Infinity" in data) and clean_json(data) is data:
            return data + b"\n"
    return _repaired(record) + b"\n"


def _repaired(record: Record) -> bytes:
    document = _document(record)
    for _ in range(_MAX_REPAIRS):
        try:
            type(record).model_validate(document)
        except ValidationError as error:
            errors = error.errors(include_url=False, include_context=False, include_input=False)
            for each in reversed(errors):  # removing a later list item moves no earlier one
                _repair(document, each["loc"], each["type"])
        else:
            break
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False).encode()


def _document(value: Any, depth: int = MAX_DEPTH) -> Any:
    """Return a value as JSON, field by field; pydantic's own dump stops at the first invalid field."""
    if depth <= 0:
        return None
    if isinstance(value, BaseModel):
        fields = {name: getattr(value, name, None) for name in type(value).model_fields}
        return {
            clean_text(name): _document(item, depth - 1)
            for name, item in (fields | (value.model_extra or {})).items()
        }
    if isinstance(value, (list, tuple)):
        return [_document(item, depth - 1) for item in value]
    return plain(value)


def _repair(document: Any, location: tuple[int | str, ...], error_type: str) -> None:
    """Replace or remove the value at the location of a pydantic error."""
    *parents, last = location or ("",)
    container = document
    for key in parents:
        if not isinstance(container, (dict, list)):
            return
        container = container[key]  # type: ignore[index]  # a location in this document
    if isinstance(container, dict):
        if error_type.startswith(("float", "int", "finite", "missing")):
            container[last] = 0
        elif error_type.startswith("string"):
            container[last] = json.dumps(container[last], ensure_ascii=False)
        else:
            container.pop(last, None)  # read as the field's default
    elif isinstance(container, list) and isinstance(last, int):
        del container[last]


def _bounded(value: Any) -> Any:
    if type(value) is str:
        return clean_text(value, most=MAX_TEXT)
    if isinstance(value, (int, float)) and not is_bounded(value):
        return None
    return value


def manifest_schema() -> dict[str, Any]:
    """Return the JSON schema of ``manifest.json``, which is docs/manifest.schema.json."""
    schema = Manifest.model_json_schema(mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _load(model: type[M], path: Path) -> M:
    """Read and parse in one thread: a manifest from elsewhere may be large."""
    file = path / MANIFEST_NAME if path.is_dir() else path
    with confined(Root.of(file.parent)):
        data = read_file(file, _MAX_BYTES)
    return model.from_bytes(data, source=str(file))
