"""HLS output with names of the caller's choice, as the maker's client and streams have it."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from asynccam.errors import TargetExistsError, UsageError
from asynccam.recording.elements import Codec, GstElement, printf_literal
from asynccam.recording.outputs import FileSet, Sink

_NUMBER: Final = re.compile(r"%0(\d)d")


@dataclass(frozen=True, slots=True)
class HlsPlaylist:
    """HLS playlist and its segments.

    Attributes:
        root: URL of the segments' directory, put before their names in the playlist.
        playlist: Path of the playlist.
        location: Path of the segments, with one number like ``%05d`` in its name.
        length: Number of segments in the playlist, 0 for all.
        max_files: Number of segments to keep, 0 for all.
        segment_seconds: Length of a segment, 1 or more.

    Raises:
        UsageError: A field is out of range.
    """

    root: str
    playlist: Path
    location: str
    length: int = 10
    max_files: int = 10
    segment_seconds: int = 5

    def __post_init__(self) -> None:
        numbers = _NUMBER.findall(Path(self.location).name)
        if len(numbers) != 1 or self.location.count("%") != 1:
            raise UsageError(f"{self.location!r}: the name of a segment must have one number, such as %05d")
        if self.segment_seconds < 1 or self.length < 0 or self.max_files < 0:
            raise UsageError(f"segment_seconds must be >= 1, length and max_files >= 0: {self}")

    @property
    def directory(self) -> Path:
        """Return the directory of the segments, which must exist."""
        return Path(self.location).absolute().parent

    def sink(self, codec: Codec, run: int) -> Sink:
        """Return the elements for one run."""
        if codec != "h264":
            raise UsageError(f"HLS needs h264, not {codec}")
        playlist = self.playlist.absolute()
        if playlist.exists():
            raise TargetExistsError(f"{playlist} exists; a recording never writes over a file")
        head, _, tail = Path(self.location).name.partition("%")
        digits, tail = int(tail[1]), tail[3:]
        files = FileSet(self.directory, re.compile(rf"{re.escape(head)}(\d{{{digits},}}){re.escape(tail)}"))
        taken = files.sizes()
        if taken:
            raise TargetExistsError(f"{next(iter(taken))} exists; a recording never writes over a file")
        location = f"{printf_literal(f'{self.directory}/{head}')}%0{digits}d{printf_literal(tail)}"
        element = GstElement(
            "hlssink2",
            {
                "playlist-root": self.root.rstrip("/"),
                "playlist-location": str(playlist),
                "location": location,
                "target-duration": self.segment_seconds,
                "playlist-length": self.length,
                "max-files": self.max_files,
            },
        )
        return Sink((element,), files, frozenset({"splitmuxsink", "mpegtsmux"}), byte_stream=True)
