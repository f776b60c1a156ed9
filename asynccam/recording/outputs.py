"""Outputs: each is the end of a chain and knows its own files.

A recorder that restarts begins a new *run*; no run ever overwrites a file that exists. Live outputs have no
files: they go over the network, or to this process.
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal, Protocol

from asynccam.errors import StorageError, TargetExistsError, UsageError
from asynccam.recording.elements import Chain, Codec, GstElement, PadOf, Value, caps, printf_literal

_MEGABYTE: Final = 1_000_000
_SECOND: Final = 1_000_000_000  # GStreamer counts nanoseconds


@dataclass(frozen=True, slots=True)
class FileSet:
    """Files of one run."""

    directory: Path | None  # their directory, or None for an output without files
    pattern: re.Pattern[str]  # matches their whole names; its first group, if it has one, is their number
    first: int = 0  # the lowest number that is this run's
    keep: int = 0  # how many of the newest files of all runs the recorder keeps, 0 for all

    def sizes(self) -> dict[Path, int]:
        """Return paths, oldest first, and bytes of the files that exist; reads the directory."""
        found: list[tuple[int, Path, int]] = []
        if self.directory is None:
            return {}
        try:
            with os.scandir(self.directory) as entries:
                for entry in entries:
                    match = self.pattern.fullmatch(entry.name)
                    number = int(match[1]) if match and match.re.groups else 0
                    if match and number >= self.first:
                        found.append((number, self.directory / entry.name, entry.stat().st_size))
        except FileNotFoundError:
            return self.sizes() if self.directory.exists() else {}  # a file was rotated away meanwhile
        except OSError as error:
            raise StorageError(f"cannot read {self.directory}: {error}") from error
        return {path: size for _, path, size in sorted(found)}


@dataclass(frozen=True, slots=True)
class Sink:
    """End of a chain: muxer and sink."""

    chain: Chain
    files: FileSet
    inner: frozenset[str] = frozenset()  # factories they need besides themselves
    pass_fds: tuple[int, ...] = ()  # descriptors that they write to, inherited under their numbers
    byte_stream: bool = False  # whether H.264 and H.265 are wanted with start codes and not with lengths
    others: tuple[Chain, ...] = ()  # further chains that the first one feeds


class RecorderOutput(Protocol):
    """Destination of a recording."""

    @property
    def directory(self) -> Path | None:
        """Directory, which must exist, or None for an output that writes no files."""
        ...

    def sink(self, codec: Codec, run: int) -> Sink:
        """Return the elements for one run; looks for free names in the directory.

        Args:
            codec: Codec of the source.
            run: 0 for the first run, more for one after a restart.

        Raises:
            UsageError: The container cannot hold the codec.
            TargetExistsError: The first run's file exists already.
        """
        ...


@dataclass(frozen=True, slots=True)
class SingleFile:
    """One file; the container follows from its suffix: ``.mp4``, ``.mov`` or ``.mkv``.

    A restart continues in ``NAME-1.mp4`` or the next name that is free. MP4 is written in fragments
    of a second and made an ordinary MP4 at the end, so that a killed process leaves all but the
    last second or two.

    Attributes:
        path: The file.
        plain: Write MP4 as GStreamer before 1.20 can, with its index at the end: a killed process leaves
            nothing that plays.
        reserved: The file exists, empty, made by the caller to have its name.
    """

    path: Path
    plain: bool = False
    reserved: bool = False

    def __post_init__(self) -> None:
        if self.path.suffix.lower() not in _MUXERS:
            raise UsageError(f"{self.path.name!r}: the file name must end in {', '.join(_MUXERS)}")

    @property
    def directory(self) -> Path:
        """Directory, which must exist."""
        return self.path.parent

    def sink(self, codec: Codec, run: int) -> Sink:
        """Return the elements for one run."""
        suffix = self.path.suffix.lower()
        _check_container(suffix, codec)
        path = self.path.absolute()
        if run:
            path = _free_path(lambda number: self.path.absolute().with_stem(f"{self.path.stem}-{number}"))
        elif path.exists() and not (self.reserved and path.stat().st_size == 0):
            raise TargetExistsError(f"{path} exists; a recording does not overwrite files")
        files = FileSet(path.parent, re.compile(re.escape(path.name)))
        muxer = GstElement("qtmux") if self.plain and suffix != ".mkv" else _MUXERS[suffix]
        return Sink((muxer, GstElement("filesink", {"location": str(path)})), files)


@dataclass(frozen=True, slots=True)
class SplitFiles:
    """Files in a row, each playable by itself: ``STEM-00.mkv``, ``STEM-01.mkv`` and so on.

    Numbers continue from the highest that exists.

    Attributes:
        directory: Their directory.
        stem: Beginning of their names; any text that is a file name.
        container: ``mkv`` or ``mp4``.
        max_files: The recorder keeps only the newest so many, 0 for all. (``splitmuxsink`` itself
            would begin again at 00 and overwrite files.)
        max_seconds: Length of a file, 0 for no limit.
        max_megabytes: Size of a file in megabytes of 1,000,000 bytes, 0 for no limit.
    """

    directory: Path
    stem: str
    container: Literal["mkv", "mp4"] = "mkv"
    max_files: int = 0
    max_seconds: float = 0
    max_megabytes: float = 0

    def __post_init__(self) -> None:
        _check_stem(self.stem)
        if min(self.max_files, self.max_seconds, self.max_megabytes) < 0:
            raise UsageError("max_files, max_seconds and max_megabytes must be >= 0")

    def sink(self, codec: Codec, run: int) -> Sink:
        """Return the elements for one run."""
        _check_container(f".{self.container}", codec)
        directory = self.directory.absolute()
        pattern = re.compile(rf"{re.escape(self.stem)}-(\d{{2,}})\.{self.container}")
        numbers = [int(match[1]) for path in directory.iterdir() if (match := pattern.fullmatch(path.name))]
        first = max(numbers, default=-1) + 1
        muxer = _MUXERS[f".{self.container}"].factory
        properties: dict[str, Value] = {
            "location": f"{printf_literal(f'{directory}/{self.stem}')}-%02d.{self.container}",
            "max-size-time": round(self.max_seconds * _SECOND),
            "max-size-bytes": round(self.max_megabytes * _MEGABYTE),
            "start-index": first,
        }
        if self.container == "mkv" and not self.max_seconds and not self.max_megabytes:
            # A single file begins at 0, however long its start was waited for; several go on in time.
            properties["muxer"] = f"{muxer} offset-to-zero=true"
        else:
            properties["muxer-factory"] = muxer
        element = GstElement("splitmuxsink", properties)
        files = FileSet(directory, pattern, first, self.max_files)
        return Sink((element,), files, frozenset({muxer, "filesink"}))


@dataclass(frozen=True, slots=True)
class HlsFiles:
    """An HLS playlist ``STEM.m3u8`` with segments ``STEM-00000.ts`` and so on; H.264 only.

    A restart goes on in ``STEM-1.m3u8`` or the next name that is free.

    Attributes:
        directory: Where they go.
        stem: What their names begin with.
        segment_seconds: Length of a segment, 1 or more.
        playlist_length: Segments the playlist names, 0 for all.
        max_files: Keep only the newest so many segments, 0 for all.
    """

    directory: Path
    stem: str = "stream"
    segment_seconds: int = 5
    playlist_length: int = 5
    max_files: int = 10

    def __post_init__(self) -> None:
        _check_stem(self.stem)
        if self.segment_seconds < 1 or self.playlist_length < 0 or self.max_files < 0:
            raise UsageError(f"invalid HLS output: {self}")

    def sink(self, codec: Codec, run: int) -> Sink:
        """Return the elements for one run."""
        if codec != "h264":
            raise UsageError(f"HLS needs h264, not {codec}")
        directory = self.directory.absolute()
        playlist = directory / f"{self.stem}.m3u8"
        if run:
            playlist = _free_path(lambda number: directory / f"{self.stem}-{number}.m3u8")
        elif playlist.exists():
            raise TargetExistsError(f"{playlist} exists; a recording does not overwrite files")
        base = playlist.with_suffix("")
        element = GstElement(
            "hlssink2",
            {
                "playlist-location": str(playlist),
                "location": f"{printf_literal(str(base))}-%05d.ts",
                "target-duration": self.segment_seconds,
                "playlist-length": self.playlist_length,
                "max-files": self.max_files,
            },
        )
        files = FileSet(directory, re.compile(rf"{re.escape(base.name)}-(\d{{5,}})\.ts"))
        return Sink((element,), files, frozenset({"splitmuxsink", "mpegtsmux"}), byte_stream=True)


@dataclass(frozen=True, slots=True)
class PictureFiles:
    """A file for every frame of Motion JPEG: ``STEM-00000.jpg``, ``STEM-00001.jpg`` and so on."""

    directory: Path  # must not hold any of these names
    stem: str = "frame"
    max_files: int = 0  # only the newest so many are kept, 0 for all

    def __post_init__(self) -> None:
        _check_stem(self.stem)
        if self.max_files < 0:
            raise UsageError(f"max_files must be >= 0, not {self.max_files}")

    def files(self) -> FileSet:
        """Return the files of every run."""
        pattern = re.compile(rf"{re.escape(self.stem)}-(\d{{5,}})\.jpg")
        return FileSet(self.directory.absolute(), pattern)

    def sink(self, codec: Codec, run: int) -> Sink:
        """Return the elements for one run."""
        if codec != "jpeg":
            raise UsageError(f"picture files need jpeg, not {codec}")
        directory, files = self.directory.absolute(), self.files()
        first = max((int(path.stem.rpartition("-")[2]) for path in files.sizes()), default=-1) + 1
        if first and not run:
            raise TargetExistsError(f"{directory} already has pictures named {self.stem}-NUMBER.jpg")
        properties: dict[str, Value] = {
            "location": f"{printf_literal(f'{directory}/{self.stem}')}-%05d.jpg",
            "max-files": self.max_files,
            "index": first,
        }
        element = GstElement("multifilesink", properties)
        return Sink((element,), replace(files, first=first))


def _check_container(suffix: str, codec: Codec) -> None:
    if codec not in _CODECS[suffix]:
        fitting = [other for other, codecs in _CODECS.items() if codec in codecs]
        raise UsageError(f"an {suffix} cannot hold {codec}; record it to {' or '.join(fitting) or 'memory'}")


def _check_stem(stem: str) -> None:
    if not stem or "/" in stem or "\0" in stem:
        raise UsageError(f"{stem!r} cannot begin a file name")


def _free_path(name: Callable[[int], Path]) -> Path:
    number = 1
    while (path := name(number)).exists():
        number += 1
    return path


_CODECS: Final[dict[str, tuple[Codec, ...]]] = {
    ".mp4": ("h264", "h265"),
    ".mov": ("h264", "h265", "jpeg"),
    ".mkv": ("h264", "h265", "vp8", "vp9", "jpeg"),
}
_FRAGMENTS: Final[dict[str, Value]] = {"fragment-duration": 1000, "fragment-mode": "first-moov-then-finalise"}
_MUXERS: Final = {
    ".mp4": GstElement("mp4mux", _FRAGMENTS),
    ".mov": GstElement("qtmux", _FRAGMENTS),
    ".mkv": GstElement("matroskamux", {"offset-to-zero": True}),
}


NO_FILES: Final = FileSet(None, re.compile("(?!)"))
_RTP_SESSION: Final = "rtp"
_RTP_CODECS: Final = ("h264", "h265", "vp8", "vp9")


@dataclass(frozen=True, slots=True)
class RtpOutput:
    """RTP over UDP to one receiver. See docs/protocols/nanocam.md."""

    host: str
    port: int
    payload: int = 96  # RTP payload type
    ssrc: int | None = None  # of the stream (RFC 3550, 3), or None for one that GStreamer chooses
    # Whether RTCP sender reports go to the same port (RFC 5761), which not every receiver distinguishes from
    # RTP. They are of when frames were made, where the source stamps frames with that.
    reports: bool = False

    def __post_init__(self) -> None:
        if not self.host or not 1 <= self.port <= 65535 or not 0 <= self.payload <= 127:
            raise UsageError(f"invalid RTP receiver: {self}")

    @property
    def directory(self) -> None:
        """None: there are no files."""
        return

    def sink(self, codec: Codec, run: int) -> Sink:
        """Return the elements for one run."""
        if codec not in _RTP_CODECS:
            raise UsageError(f"RTP output needs one of {', '.join(_RTP_CODECS)}, not {codec}")
        pay: dict[str, Value] = {"pt": self.payload}
        form: Chain = ()
        if codec in ("h264", "h265"):
            # Parameter sets before every key frame, for a receiver that joins late.
            pay["config-interval"] = -1
            form = (caps(f"video/x-{codec}", stream_format="byte-stream"),)
        receiver: dict[str, Value] = {"host": self.host, "port": self.port}
        if self.ssrc is not None:
            pay["ssrc"] = self.ssrc
        if not self.reports:
            chain = (*form, GstElement(f"rtp{codec}pay", pay), GstElement("udpsink", receiver))
            return Sink(chain, NO_FILES, byte_stream=True)
        # Reports are of when pictures were made, and are sent from the first on: RFC 4585, 3.4, does not make
        # the first ones wait for seconds, as RFC 3550, 6.2, does.
        session: dict[str, Value] = {
            "name": _RTP_SESSION,
            "rtcp-sync-send-time": False,
            "rtp-profile": "avpf",
        }
        reports = GstElement("udpsink", {**receiver, "sync": False, "async": False})
        return Sink(
            (*form, GstElement(f"rtp{codec}pay", pay), PadOf(_RTP_SESSION, "send_rtp_sink_0")),
            NO_FILES,
            byte_stream=True,
            others=(
                (GstElement("rtpbin", session),),
                (PadOf(_RTP_SESSION, "send_rtp_src_0"), GstElement("udpsink", receiver)),
                (PadOf(_RTP_SESSION, "send_rtcp_src_0"), reports),
            ),
        )


@dataclass(frozen=True, slots=True)
class RawFrames:
    """Decoded frames, written to a descriptor of this process, each with its size and format.

    The output is GStreamer's data protocol 1.0, which ``gdppay`` writes.
    """

    fd: int  # writing end of a pipe, which the process inherits
    pixels: str = "BGR"  # GStreamer video format; OpenCV uses ``BGR``

    @property
    def directory(self) -> None:
        """None: there are no files."""
        return

    def sink(self, codec: Codec, run: int) -> Sink:
        """Return the elements for one run; an encoded stream is decoded with any installed decoder."""
        decode = () if codec == "raw" else (GstElement("decodebin"),)
        form = caps("video/x-raw", format=self.pixels)
        # Frames are written as they arrive, and a slow reader holds up the pipeline.
        write = GstElement("fdsink", {"fd": self.fd, "sync": False})
        chain = (
            *decode,
            GstElement("videoconvert"),
            form,
            GstElement("gdppay", {"crc-header": False}),
            write,
        )
        return Sink(chain, NO_FILES, pass_fds=(self.fd,))
