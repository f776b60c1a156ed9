"""Results of starts and stops: typed, and readable like the dictionaries of the maker's client."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from asynccam.errors import AsynccamError
from asynccam.model.coverage import EarlyEnd, LateBegin
from asynccam.recording import FileVerdict, Gap


class DictLike(Mapping[str, Any]):
    """Dataclass whose fields can also be read as ``result["field"]``."""

    __slots__ = ()

    def __getitem__(self, key: str) -> Any:
        if key not in self.__dataclass_fields__:  # type: ignore[attr-defined]  # every subclass is a dataclass
            raise KeyError(key)
        return getattr(self, key)

    def __iter__(self) -> Iterator[str]:
        return (field.name for field in fields(self))  # type: ignore[arg-type]  # as above

    def __len__(self) -> int:
        return sum(1 for _ in self)


@dataclass(frozen=True, slots=True, eq=False)
class OpenStream(DictLike):
    """Stream that a server sends.

    ``camera_id`` is the camera's id at the server, ``camera`` its stable id, and ``url`` is
    ``srt://HOST:PORT``, for a player.
    """

    camera_id: int
    camera: str
    capability: str
    port: int
    url: str


@dataclass(frozen=True, slots=True, eq=False)
class StreamStart(OpenStream):
    """Stream that is being recorded. Times are Unix seconds.

    Attributes:
        file_pattern: File names, with ``%02d`` for the number.
        video_path: The first file, as in the maker's client from 0.3 on.
        first_frame_at: Time at which the first frame reached the muxer.
        first_frame_bound: It arrived at most this many seconds earlier.
        accepted_at: Time at which the server had accepted, but not before ``commanded_at``.
    """

    output_dir: Path
    file_pattern: str
    video_path: Path
    commanded_at: float
    first_frame_at: float
    first_frame_bound: float
    accepted_at: float


@dataclass(frozen=True, slots=True, eq=False)
class StreamStop(DictLike):
    """Stream that has ended. Times are Unix seconds.

    Attributes:
        camera_id: The camera's id at the server when the stream was started.
        files: Verdict on each recorded file, oldest first; empty if nothing was recorded.
        first_frame_at, first_frame_bound: As of `StreamStart`, or None.
        stopped_at: Time at which the server had answered, or the request was given up.
        error: Error that ended the recording before the stop, or None.
        server_error: Why the server may still be streaming, or None; the files are not affected.
        ended_early, begins_late: Set if the video does not cover the time from start to stop.
        spoiled_frames: Damaged pictures that were left out of the files.
        taken_away: Whether the server sent nothing for a while though it accepted a new start, as when
            another program has taken the stream over.
    """

    camera_id: int
    camera: str
    files: tuple[FileVerdict, ...]
    gaps: tuple[Gap, ...]
    first_frame_at: float | None
    first_frame_bound: float | None
    commanded_at: float
    stopped_at: float
    error: AsynccamError | None = None
    server_error: AsynccamError | None = None
    ended_early: EarlyEnd | None = None
    begins_late: LateBegin | None = None
    spoiled_frames: int = 0
    taken_away: bool = False
