"""The manifest of a take: what happened to each camera and file, for people and programs to read later.

``manifest.json`` is this model as UTF-8 JSON. Times are of **this computer's** clock unless a field
says otherwise. See docs/take.md for the meaning of every field and docs/manifest.schema.json for
the JSON schema.
"""

import asyncio
import json
from collections.abc import Mapping
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
_MOST_BYTES: Final = 64 << 20
"""Bytes of a manifest that is read; one with ten thousand files has about ten million."""
_MOST_REPAIRS: Final = 4
_MOST_POINTS: Final = 24
"""Measurements of one clock that are kept: a line through them is fitted at every save of the manifest."""


class Outcome(StrEnum):
    """How a take, or one camera's part in it, ended."""

    RUNNING = "running"
    COMPLETE = "complete"
    INCOMPLETE = "incomplete"
    FAILED = "failed"
    CANCELLED = "cancelled"
    RESUMED = "resumed"


class FileState(StrEnum):
    """Where a recorded file stands."""

    PENDING = "pending"
    ARRIVED = "arrived"
    FAILED = "failed"


class Record(BaseModel):
    """Base of what a manifest is made of: any text and number is accepted, and can be written.

    Text is cleaned (see `asynccam.outside`) and cut to 16,384 characters. A number that does not fit (not
    finite, or an integer of more than 64 bits) is null where the field may be null, and refused elsewhere.
    Fields that a later version adds are kept, so that an older reader can write the file back.
    """

    model_config = ConfigDict(extra="allow", allow_inf_nan=False, ser_json_inf_nan="constants")

    @model_validator(mode="before")
    @classmethod
    def _clean(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        return {name: _bounded(value) for name, value in data.items()}


class Moment(Record):
    """A point in time, twice: for programs and for people."""

    unix: float = Field(description="Unix seconds, with fraction.")
    utc: str = Field(description="The same as ISO 8601 in UTC to the millisecond.")

    @classmethod
    def of(cls, unix: float) -> Self:
        """The moment ``unix`` seconds after 1970; what no calendar can hold has an empty ``utc``."""
        try:
            text = datetime.fromtimestamp(unix, UTC).isoformat(timespec="milliseconds")
        except (OverflowError, ValueError, OSError):
            return cls(unix=unix if is_bounded(unix) else 0.0, utc="")
        return cls(unix=unix, utc=text.replace("+00:00", "Z"))

    @classmethod
    def maybe(cls, unix: float | None) -> Self | None:
        """The moment, or None for None."""
        return None if unix is None else cls.of(unix)


class ErrorRecord(Record):
    """One thing that went wrong."""

    step: str = Field(
        description="What was being done: clock, arm, start, stop, collect, verify, or of the take itself."
    )
    error: str = Field(description="Name of the asynccam error class, or of the foreign one.")
    message: str = Field(description="The error in words.")
    retryable: bool = Field(description="Whether the same step may succeed later.")
    at: Moment = Field(description="When it was noticed.")

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
    bound: float = Field(description="Of this measurement alone, in seconds.")
    round_trip: float = Field(description="Its shortest round trip, in seconds.")
    samples: int = Field(description="Its usable answers.")
    measured_at: Moment = Field(description="Time for which this offset holds.")
    resolution: float = Field(default=0.0, description="Step of the other clock's stamps, in seconds.")
    consistent: bool = Field(default=True, description="Whether one clock can have given all its answers.")

    @classmethod
    def of(cls, clock: ClockOffset) -> Self:
        """A measured offset as a record."""
        return cls(
            offset=clock.offset,
            bound=clock.bound,
            round_trip=clock.round_trip,
            samples=clock.samples,
            measured_at=Moment.of(clock.measured_at),
            resolution=clock.resolution,
            consistent=clock.consistent,
        )

    def clock_offset(self) -> ClockOffset:
        """The record as a measured offset."""
        return ClockOffset(
            self.offset,
            self.bound,
            self.round_trip,
            self.samples,
            self.measured_at.unix,
            resolution=self.resolution,
            consistent=self.consistent,
        )


class ClockRecord(Record):
    """One clock held against this computer's: an offset at one time, and a line if it was measured often."""

    offset: float = Field(description="Other clock minus this computer's at measured_at, in seconds.")
    bound: float = Field(description="The true offset lies within offset plus or minus this, in seconds.")
    round_trip: float = Field(description="Shortest round trip seen, in seconds.")
    samples: int = Field(description="Usable answers of all measurements.")
    measured_at: Moment = Field(description="Time for which the offset holds: that of the first measurement.")
    resolution: float = Field(
        default=0.0, description="Coarsest step of the other clock's stamps, in seconds; part of bound."
    )
    consistent: bool = Field(
        default=True, description="Whether one clock can have given all answers of all measurements."
    )
    drift: float | None = Field(
        default=None,
        description="Seconds per second by which the other clock runs faster; null if measured once.",
    )
    drift_bound: float | None = Field(
        default=None, description="The mean drift lies within drift plus or minus this; null like drift."
    )
    points: list[ClockPoint] = Field(
        default_factory=list, description="Its measurements, by time, at most 24; empty in version 1."
    )
    rejected: list[ClockPoint] = Field(
        default_factory=list,
        description="Measurements of a time server that contradict the points, not used; the first 24.",
    )

    @classmethod
    def of(cls, *measurements: ClockOffset) -> Self:
        """Measured offsets of one clock as a record, with the line through them; at least one."""
        line = fit_line(measurements)
        first = line.measurements[0]
        several = len(line.measurements) > 1
        # A measurement stands as it is, unless the line sees more, or covers what contradicts.
        at_first = line.interval(first.measured_at)
        by_line = several and (not line.consistent or at_first.bound < first.bound)
        return cls(
            offset=at_first.middle if by_line else first.offset,
            bound=at_first.bound if by_line else first.bound,
            round_trip=min(one.round_trip for one in measurements),
            samples=sum(one.samples for one in measurements),
            measured_at=Moment.of(first.measured_at),
            resolution=max(one.resolution for one in measurements),
            consistent=line.consistent,
            drift=line.rate if several else None,
            drift_bound=line.rate_bound if several else None,
            points=[ClockPoint.of(one) for one in line.measurements],
        )

    def with_measurement(self, measurement: ClockOffset) -> Self:
        """The record with one measurement more; of many every second goes, which only widens bounds."""
        points = self._points()
        if len(points) >= _MOST_POINTS:
            points = [points[0], *points[1:-1:2], points[-1]]
        made = type(self).of(*(point.clock_offset() for point in points), measurement)
        made.samples = self.samples + measurement.samples
        made.consistent = made.consistent and self.consistent
        made.rejected = self.rejected
        return made

    def with_rejected(self, measurement: ClockOffset) -> Self:
        """The record with a measurement that is told, and not used."""
        rejected = [*self.rejected, ClockPoint.of(measurement)][:_MOST_POINTS]
        return self.model_copy(update={"rejected": rejected})

    def line(self) -> ClockLine:
        """The offset over time, with its bound at every time."""
        return fit_line([point.clock_offset() for point in self._points()])

    def _points(self) -> list[ClockPoint]:
        if self.points:
            return self.points
        return [
            ClockPoint(
                offset=self.offset,
                bound=self.bound,
                round_trip=self.round_trip,
                samples=self.samples,
                measured_at=self.measured_at,
                resolution=self.resolution,
                consistent=self.consistent,
            )
        ]


class StartRecord(Record):
    """T0: the one moment every camera was told to start at."""

    t0: Moment = Field(description="T0 by the reference clock; scheduled cameras were sent exactly this.")
    # Manifests and journals written before the field was renamed have t0_computer.
    t0_local: Moment = Field(
        description="T0 by this computer's clock.", validation_alias=AliasChoices("t0_local", "t0_computer")
    )
    source: Literal["system", "ntp"] = Field(description="The reference clock: this computer's, or NTP.")
    server: str | None = Field(default=None, description="The NTP server asked, if any.")
    clock: ClockRecord | None = Field(
        default=None, description="NTP time minus this computer's; null for source system."
    )
    start_in: float = Field(description="Seconds from the decision to T0.")
    tolerance: float | None = Field(
        default=None, description="How late after T0 a start may leave, in seconds; null if not judged."
    )


class VerdictRecord(Record):
    """What a look into a video file found."""

    verdict: str = Field(description="complete, truncated, damaged, empty or unknown.")
    frames: int | None = Field(
        default=None, description="Video frames that are there and that a player shows, or null for unknown."
    )
    duration: float | None = Field(
        default=None, description="Presentation time of these frames in s, or null."
    )
    detail: str = Field(default="", description="What is wrong or remarkable, in words.")

    @classmethod
    def of(cls, finding: CheckResult) -> Self:
        """A finding as a record."""
        return cls(
            verdict=str(finding.verdict.value),
            frames=finding.frames,
            duration=finding.duration,
            detail=finding.detail,
        )

    @property
    def is_failure(self) -> bool:
        """Whether the file is known not to hold what it should; a word of a later version counts as one."""
        return self.verdict not in ("complete", "unknown")

    @property
    def frame_interval(self) -> float:
        """Mean seconds between two frames; assumed for fewer than two."""
        frames = self.frames or 0
        return (self.duration or 0.0) / frames if frames > 1 else SINGLE_FRAME_INTERVAL


class FileRecord(Record):
    """One recorded file."""

    name: str = Field(description="The camera's own name for it; never a path.")
    id: str = Field(default="", description="A second name by which the camera hands it out, if it has one.")
    source: Literal["device", "local"] = Field(description="Fetched from the device, or recorded here.")
    state: FileState = Field(default=FileState.PENDING, description="pending, arrived or failed.")
    path: str | None = Field(
        default=None, description="Where it is, relative to the take's directory, with forward slashes."
    )
    size: int | None = Field(default=None, description="Bytes; before arrival what the camera announced.")
    sha256: str | None = Field(default=None, description="Lower-case hexadecimal digest.")
    seconds: float | None = Field(default=None, description="How long the transfer took.")
    part: str | None = Field(default=None, description="What arrived of a broken transfer, like path.")
    received: int | None = Field(default=None, description="Bytes in part.")
    verdict: VerdictRecord | None = Field(default=None, description="Null where nobody looked.")


class GapRecord(Record):
    """A stretch in which a camera is known not to have recorded."""

    began_at: Moment = Field(description="Last moment known to be recorded.")
    ended_at: Moment | None = Field(default=None, description="First moment recorded again, or null.")
    restarted: bool = Field(default=False, description="Whether a new file was begun after it.")
    reason: str = Field(default="", description="Why, in words.")


class LateBeginRecord(Record):
    """The begin of a video that begins clearly after it was told to."""

    at: Moment = Field(description="Time of its first frame.")
    seconds: float = Field(description="What is missing from the start to there.")
    reason: str = Field(default="", description="Why, in words.")


class EarlyEndRecord(Record):
    """The end of a video that ends clearly before it was told to."""

    at: Moment = Field(description="Time of its last frame.")
    seconds: float = Field(description="What is missing from there to the stop.")
    reason: str = Field(default="", description="Why, in words.")


class ClockStepRecord(Record):
    """This computer's clock was set during the take, to which the times in the manifest do not follow."""

    at: Moment = Field(description="When that was noticed, on the scale of all times here.")
    seconds: float = Field(description="By how much, forward above 0.")


class PauseRecord(Record):
    """A stretch in which nothing of the program that ran the take went on."""

    at: Moment = Field(description="When it was last seen running.")
    seconds: float = Field(description="How long nothing ran.")
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
    bound: float | None = Field(default=None, description="What the device says of its error, in seconds.")


FirstFrameSource = Literal["seen", "device", "answer", "schedule", "status", "length"]
"""What a first frame's time can rest on, the closest to the frame itself first."""


class EvidenceRecord(Record):
    """One thing that says when a camera's first frame was."""

    source: str = Field(
        description="command, answer, schedule, status, device, length, or seen by a recorder here."
    )
    earliest: Moment | None = Field(
        default=None, description="The first frame was not before this; null if it does not say."
    )
    latest: Moment | None = Field(
        default=None, description="The first frame was not after this; null if it does not say."
    )
    assumed: bool = Field(default=False, description="Whether it rests on an assumption, not on an event.")


class CameraRecord(Record):
    """One camera's part in the take."""

    id: str = Field(description="Stable identity, such as multicam://Mountain-A1B2C3D4.")
    name: str = Field(description="What to show a person.")
    system: str = Field(description="One of the five systems.")
    serial: str = Field(default="", description="The device's own identifier.")
    model: str = Field(default="", description="Kind of device.")
    address: str = Field(default="", description="Where it was reached.")
    identity: dict[str, str] = Field(
        default_factory=dict,
        description="What it told of itself, to notice another device at its address; empty: unknown.",
    )
    directory: str = Field(description="Its folder, relative to the take's directory.")
    features: list[str] = Field(default_factory=list, description="What it can do.")
    kind: Literal["video", "still"] = Field(
        default="video", description="What it makes in the take: video, or one still picture at T0."
    )
    outcome: Outcome = Field(default=Outcome.RUNNING, description="How its part ended.")
    clock: ClockRecord | None = Field(default=None, description="Its clock minus this computer's.")
    commanded_at: Moment | None = Field(default=None, description="The start left this computer.")
    start_lateness: float | None = Field(
        default=None,
        description="Seconds after T0 at which the start left; below 0 for one that was sent ahead.",
    )
    accepted_at: Moment | None = Field(default=None, description="The answer to the start arrived.")
    scheduled_for: Moment | None = Field(
        default=None, description="When it promised to start, by its own clock; null for at once."
    )
    first_frame_at: Moment | None = Field(
        default=None, description="Time of the first frame; null if nothing tells or bounds it."
    )
    first_frame_bound: float | None = Field(
        default=None, description="The first frame lies within first_frame_at plus or minus this, seconds."
    )
    first_frame_source: FirstFrameSource | None = Field(
        default=None,
        description="The strongest that closes it: seen, device, answer, schedule, status, length; or null.",
    )
    answer_meaning: Literal["recording", "scheduled", "heard"] | None = Field(
        default=None,
        description="What the answer to the start says: recording has begun, will begin, or was only heard.",
    )
    already_recording: bool = Field(
        default=False, description="Whether it said at the start that it was recording already."
    )
    took_over: bool = Field(
        default=False,
        description="Whether it was streaming for another program when it was armed, and was taken over.",
    )
    device_first_frame: DeviceMomentRecord | None = Field(
        default=None, description="Its first frame as it tells it, by its own clock; null if it does not."
    )
    evidence: list[EvidenceRecord] = Field(
        default_factory=list, description="All that says when its first frame was."
    )
    contradictions: list[str] = Field(
        default_factory=list, description="Evidence that excludes other evidence; the bound covers both."
    )
    contradictions_seen: list[str] = Field(
        default_factory=list,
        description="Those of them that a recorder here found in what it saw of the first frame.",
    )
    stop_commanded_at: Moment | None = Field(default=None, description="The stop left this computer.")
    stopped_at: Moment | None = Field(default=None, description="The answer to the stop arrived.")
    start_status: str = Field(default="", description="The camera's own word for its start.")
    stop_status: str = Field(default="", description="The camera's own word for its stop.")
    files: list[FileRecord] = Field(default_factory=list, description="What it recorded.")
    gaps: list[GapRecord] = Field(default_factory=list, description="Known gaps; empty if none is known.")
    begins_late: LateBeginRecord | None = Field(
        default=None, description="Its video begins clearly after it was told to; null if that is not known."
    )
    ended_early: EarlyEndRecord | None = Field(
        default=None, description="Its video ends clearly before it was told to; null if that is not known."
    )
    spoiled_frames: int | None = Field(
        default=None, description="Pictures that came spoiled and are in no file; null if nobody counted."
    )
    frame_drift: float = Field(
        default=0.0,
        description="Seconds per second by which times in files recorded here may run apart from ours.",
    )
    errors: list[ErrorRecord] = Field(default_factory=list, description="What went wrong, in order.")

    @property
    def verdicts(self) -> list[VerdictRecord]:
        """Verdicts on the files that arrived and were checked."""
        return [file.verdict for file in self.files if file.state is FileState.ARRIVED and file.verdict]


class MissingRecord(Record):
    """A camera, or an address, that was to take part and was not there when the take was made."""

    id: str = Field(default="", description="Stable identity; empty if no camera has answered there yet.")
    name: str = Field(default="", description="What to show a person; empty if that is not known.")
    label: str = Field(default="", description="What a person calls it.")
    address: str = Field(description="Where it was looked for.")
    since: Moment | None = Field(default=None, description="From when on it was away; null if not known.")
    reason: str = Field(default="", description="Why it was away, in words.")


class Manifest(Record):
    """What happened in a take."""

    format: Literal["asynccam-take"] = Field(default="asynccam-take", description="Always asynccam-take.")
    version: int = Field(default=MANIFEST_VERSION, description="Raised when a field changes its meaning.")
    asynccam: str = Field(default="", description="Version of asynccam that wrote it.")
    take: str = Field(description="Name of the take, which is also its directory's.")
    outcome: Outcome = Field(default=Outcome.RUNNING, description="running until the take has ended.")
    phase: str = Field(description="Phase of the take when this was written.")
    created_at: Moment = Field(description="When the take was armed.")
    written_at: Moment = Field(description="When this was written.")
    duration: float | None = Field(default=None, description="Seconds asked for, or null if by hand.")
    start: StartRecord | None = Field(default=None, description="T0; null before it was set.")
    resumed: list[Moment] = Field(
        default_factory=list, description="When it was resumed after its process had died; empty if never."
    )
    clock_steps: list[ClockStepRecord] = Field(
        default_factory=list, description="When this computer's clock was set; the first thousand."
    )
    pauses: list[PauseRecord] = Field(
        default_factory=list, description="When the program did not run; the first thousand."
    )
    journal_lines: int | None = Field(
        default=None, description="How many lines of the journal this covers; null in older manifests."
    )
    cameras: list[CameraRecord] = Field(default_factory=list, description="Every camera of the take.")
    missing: list[MissingRecord] = Field(
        default_factory=list,
        description="Who was to take part and was not there; empty if nobody was missing.",
    )
    errors: list[ErrorRecord] = Field(default_factory=list, description="Errors of no single camera.")

    def started_late(self, camera: CameraRecord) -> bool:
        """Return whether a camera's start left later after T0 than it may."""
        tolerance = None if self.start is None else self.start.tolerance
        lateness = camera.start_lateness
        return tolerance is not None and lateness is not None and lateness > tolerance

    def to_bytes(self) -> bytes:
        """The manifest as it is written to disk."""
        return record_bytes(self)

    @classmethod
    def from_bytes(cls, data: bytes, *, source: str = "these bytes") -> Self:
        """Read a manifest.

        Args:
            data: What `to_bytes` gave.
            source: Names the bytes in the error.

        Raises:
            StorageError: They are not a manifest, or one of a version not known here.
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

        It is read only as a regular file: a link, a pipe or a device of that name is refused.

        Raises:
            StorageError: It cannot be read, is not a manifest, or is of a version not known here.
        """
        where = Path(path)
        try:
            return await asyncio.to_thread(_load, cls, where)
        except OSError as error:
            raise StorageError(f"cannot read the manifest {where}: {error.strerror or error}") from error


M = TypeVar("M", bound=Manifest)


def record_bytes(record: Record) -> bytes:
    """Return a record as the JSON of a file, whatever was assigned to its fields.

    A value that cannot be written is replaced: text is cleaned, and a number or object that no reader would
    accept becomes null, or what the field is by default.
    """
    try:
        data = record.model_dump_json(indent=2, warnings="error").encode()
        clean = not (b"NaN" in data or b"Infinity" in data) and clean_json(data) is data
    except (PydanticSerializationError, UnicodeError, ValueError, RecursionError):
        clean = False
    return (data if clean else _mended(record)) + b"\n"


def _mended(record: Record) -> bytes:
    document = _document(record)
    for _ in range(_MOST_REPAIRS):
        try:
            type(record).model_validate(document)
        except ValidationError as error:
            flaws = error.errors(include_url=False, include_context=False, include_input=False)
            for flaw in reversed(flaws):  # the places of earlier ones stay as they are
                _repair(document, flaw["loc"], flaw["type"])
        else:
            break
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False).encode()


def _document(value: Any, depth: int = MAX_DEPTH) -> Any:
    """Return a value as JSON, field by field; models too, whose own way stops at the first flaw."""
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


def _repair(document: Any, place: tuple[int | str, ...], flaw: str) -> None:
    """Put something in the place of what a reader refuses."""
    *way, last = place or ("",)
    holder = document
    for step in way:
        if not isinstance(holder, (dict, list)):
            return
        holder = holder[step]  # type: ignore[index]  # a place in what was validated
    if isinstance(holder, dict):
        if flaw.startswith(("float", "int", "finite", "missing")):
            holder[last] = 0
        elif flaw.startswith("string"):
            holder[last] = json.dumps(holder[last], ensure_ascii=False)
        else:
            holder.pop(last, None)  # the field's default
    elif isinstance(holder, list) and isinstance(last, int):
        del holder[last]


def _bounded(value: Any) -> Any:
    if isinstance(value, str):
        return clean_text(value, most=MAX_TEXT) if type(value) is str else value
    if isinstance(value, (int, float)) and not is_bounded(value):
        return None
    return value


def manifest_schema() -> dict[str, Any]:
    """The JSON schema of ``manifest.json``, as kept in docs/manifest.schema.json."""
    schema = Manifest.model_json_schema(mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def manifest_schema_text() -> str:
    """The schema as text, exactly as the file in the docs holds it."""
    return json.dumps(manifest_schema(), indent=2) + "\n"


def _load(model: type[M], path: Path) -> M:
    """Read and parse in one thread, since a manifest from elsewhere may be large."""
    file = path / MANIFEST_NAME if path.is_dir() else path
    with confined(Root.of(file.parent)):
        data = read_file(file, _MOST_BYTES)
    return model.from_bytes(data, source=str(file))
