"""What starts and stops come to: typed, and readable like the dictionaries of the maker's client."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from asynccam.errors import AsynccamError
from asynccam.model.coverage import EarlyEnd, LateBegin
from asynccam.recording import FileVerdict, Gap


class DictLike(Mapping[str, Any]):
    """A dataclass whose fields can also be read as ``result["field"]``."""

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
    """A stream that a server sends.

    Attributes:
        camera_id: The server's number for the camera.
        camera: The camera's stable id.
        capability: What is sent, as the start named it.
        port: The server's SRT port.
        url: Where a player finds the stream, ``srt://HOST:PORT``.
    """

    camera_id: int
    camera: str
    capability: str
    port: int
    url: str


@dataclass(frozen=True, slots=True, eq=False)
class StreamStart(OpenStream):
    """A stream that is being recorded.

    Attributes:
        output_dir: Where the files go.
        file_pattern: Their names; ``%02d`` stands for their number.
        video_path: The first of them, as the maker's client from 0.3 on names it.
        commanded_at: When the start was called, Unix seconds.
        first_frame_at: When the first frame reached the muxer, Unix seconds.
        first_frame_bound: It was there at most this many seconds earlier.
        accepted_at: When the server had accepted to stream, but not before ``commanded_at``, Unix seconds.
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
    """A stream that has ended.

    Attributes:
        camera_id: The number it was started under.
        camera: The camera's stable id.
        files: What each recorded file is worth, oldest first; none if nothing was recorded.
        gaps: Times without frames.
        first_frame_at: When the first frame reached the muxer, Unix seconds, or None.
        first_frame_bound: It was there at most this many seconds earlier.
        commanded_at: When the stop was called, Unix seconds.
        stopped_at: When the server had answered, or been given up, Unix seconds.
        error: What had ended the recording before the stop did, or None.
        server_error: Why the server may still be streaming, or None; the files do not suffer from it.
        ended_early: That the video ends clearly before the stop, or None.
        begins_late: That it begins clearly after the start, or None.
        spoiled_frames: Pictures that came spoiled and are not in the files.
        taken_away: Whether the server sent nothing here for a while though it took a new start, as when
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
