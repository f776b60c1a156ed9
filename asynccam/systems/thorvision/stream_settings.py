"""How streams of a ThorVision client behave, and what a recording of one needs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from asynccam.errors import UsageError
from asynccam.recording import Pipeline, SplitFiles, SrtJpegSource, Watch
from asynccam.recording.gstreamer import find_installation
from asynccam.runtime.disk import on_disk, storage_errors
from asynccam.systems.thorvision.models import Capability

_STALL_SECONDS: Final = 5.0
_STALL_FRAMES: Final = 5


@dataclass(frozen=True, slots=True)
class Split:
    """How a recording is split into files; 0 is no limit.

    Attributes:
        max_files: Keep only the newest so many.
        max_seconds: Length of a file.
        max_megabytes: Size of a file in megabytes of 1,000,000 bytes.
    """

    max_files: int = 0
    max_seconds: float = 0
    max_megabytes: float = 0


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """How streams of a client behave.

    Attributes:
        latency: Milliseconds within which SRT mends losses.
        first_frame_timeout: Seconds the first frame may take on each port.
        attempts: Ports to try.
        watch: What recorders look for; None for a stall timeout that suits the frame rate.
        renew: Whether the server is told to start again when frames stay away during a recording.
    """

    latency: int = 500
    first_frame_timeout: float = 10.0
    attempts: int = 3
    watch: Watch | None = None
    renew: bool = True

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.latency < 0 or self.first_frame_timeout <= 0:
            raise UsageError(f"not usable for streams: {self}")

    def watch_for(self, capability: Capability) -> Watch:
        """What a recorder of this capability looks for."""
        if self.watch is not None:
            return self.watch
        fps = capability.fps
        return Watch(stall=max(_STALL_SECONDS, float(_STALL_FRAMES / fps)) if fps else _STALL_SECONDS)


async def prepare_recording(directory: Path, split: Split) -> Path:
    """Do what a recording needs before it may start: a directory, and all elements of the pipeline.

    Returns:
        The directory, absolute.

    Raises:
        UsageError: A limit is below 0.
        RecordingError: GStreamer or one of its elements is missing.
        StorageError: The directory cannot be made.
    """
    target = await on_disk(_make_directory, directory)
    pipeline = Pipeline(SrtJpegSource("localhost", 1), files_of(target, "any", split))
    plan = await on_disk(pipeline.plan, frozenset[str]())
    await find_installation(plan.graph.factories)
    return target


def _make_directory(directory: Path) -> Path:
    with storage_errors("make the directory", directory):
        directory.mkdir(parents=True, exist_ok=True)
    return directory.absolute()


def files_of(directory: Path, stem: str, split: Split) -> SplitFiles:
    """The files of one recording."""
    return SplitFiles(
        directory,
        stem,
        max_files=split.max_files,
        max_seconds=split.max_seconds,
        max_megabytes=split.max_megabytes,
    )
