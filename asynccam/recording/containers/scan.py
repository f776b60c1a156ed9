"""Choice of the reader for a file by its first bytes: of its scan, and of the times of its frames."""

from collections.abc import Callable, Iterator
from itertools import chain
from typing import Final, NamedTuple

from asynccam.recording.containers.avi import AviFrames, is_avi, scan_avi
from asynccam.recording.containers.flv import FlvFrames, is_flv, scan_flv
from asynccam.recording.containers.jpeg import is_jpeg, scan_jpeg
from asynccam.recording.containers.matroska import MatroskaFrames, is_matroska, scan_matroska
from asynccam.recording.containers.mp4.frames import Mp4Frames
from asynccam.recording.containers.mp4.layout import is_mp4
from asynccam.recording.containers.mp4.scan import scan_mp4
from asynccam.recording.containers.mpegts import MpegTsFrames, is_mpegts, scan_mpegts
from asynccam.recording.containers.raw_video import is_raw_video, scan_raw_video
from asynccam.recording.containers.reader import FileView, NoTimesError, Scan
from asynccam.recording.containers.timeline import FrameStamp, reorder, with_durations
from asynccam.recording.containers.zip import is_zip, scan_zip

_HEAD: Final = 1 << 16  # bytes that a format is recognised by

_FORMATS: Final[dict[Callable[[bytes], bool], Callable[[FileView], Scan]]] = {
    is_matroska: scan_matroska,
    is_mp4: scan_mp4,
    is_avi: scan_avi,
    is_flv: scan_flv,
    is_zip: scan_zip,
    is_raw_video: scan_raw_video,
    # These two may begin behind other bytes, so all formats with a mark at their begin are tried first.
    is_mpegts: scan_mpegts,
    is_jpeg: scan_jpeg,
}
"""By likelihood where order does not matter; the first that fits reads the file."""


def scan_file(view: FileView) -> Scan:
    """Read a file's structure with the reader of its format."""
    if not view.size:
        return Scan(0, None, note="has no bytes")
    is_format = find_format(view)
    if is_format is not None:
        return _FORMATS[is_format](view)
    if view.is_zeros(0):
        return Scan(0, None, damaged="holds nothing but zeros")
    return Scan(None, None, note="is of a format that is not understood", understood=False)


def find_format(view: FileView) -> Callable[[bytes], bool] | None:
    """Return the test that recognises the format of a file, ``is_mp4`` for example, or None."""
    return recognise_format(view.read_some(0, _HEAD))


def recognise_format(head: bytes) -> Callable[[bytes], bool] | None:
    """Return the test that recognises a format in the first 65,536 bytes of a file, or None."""
    return next((is_format for is_format in _FORMATS if is_format(head)), None)


_NANOSECONDS: Final = 1_000_000_000
_MILLISECONDS: Final = 1000
_SIGN_BIT: Final = 1 << 63
_WRAP: Final = 1 << 64


class ShownFrame(NamedTuple):
    """A frame, in the order in which frames are shown; times in seconds on the file's own time line."""

    time: float | None
    duration: float | None
    resolution: float  # step of the file's times


def read_frames(view: FileView) -> Iterator[ShownFrame]:
    """Yield every frame that a verdict counts, in constant memory; raise NoTimesError if it has no times."""
    is_format = find_format(view)
    if is_format is None:
        if view.is_zeros(0):
            return  # a verdict says that it holds no frame
        raise NoTimesError("is of a format that is not understood")
    reader = _READERS.get(is_format)
    if reader is None:
        raise NoTimesError("is of a format without frame times")
    yield from reader(view)


def _matroska(view: FileView) -> Iterator[ShownFrame]:
    frames = MatroskaFrames(view)

    def stamps() -> Iterator[FrameStamp]:
        for time, duration in frames:
            # A time below zero has wrapped in 64 bits of nanoseconds.
            if time is not None and time >= _SIGN_BIT:
                time -= _WRAP
            yield FrameStamp(time, duration, frames.frame_duration)

    for time, duration in with_durations(reorder(stamps(), _NANOSECONDS)):
        yield _shown_frame(time, duration, _NANOSECONDS, frames.tick / _NANOSECONDS)
    if not frames.is_matroska:
        raise NoTimesError("is of a format that is not understood")
    if frames.has_unknown_tracks:
        raise NoTimesError("does not describe its tracks")


def _mp4(view: FileView) -> Iterator[ShownFrame]:
    frames = Mp4Frames(view)
    early: int | None = None
    # The rate is known when the first frame is, which comes before any other.
    for time, duration in with_durations(_reorder_at(iter(frames), lambda: frames.rate)):
        if early is None:
            # An edit may begin inside a frame, which is left out. As ffmpeg does, the first frame that begins
            # inside the edit is shown from the edit's own beginning on, and all others as much earlier.
            early = 0 if frames.pauses is None else max(0, (time or 0) - frames.pauses)
        yield _shown_frame(None if time is None else time - early, duration, frames.rate, 1 / frames.rate)


def _avi(view: FileView) -> Iterator[ShownFrame]:
    frames = AviFrames(view)

    def stamps() -> Iterator[FrameStamp]:
        for tick in frames:
            if not frames.has_rate:
                raise NoTimesError("does not state its frame rate")
            yield FrameStamp(tick, usual=1)

    for time, duration in with_durations(_reorder_at(stamps(), lambda: frames.rate)):
        yield _shown_frame(time, duration, frames.rate, 1 / frames.rate)


def _flv(view: FileView) -> Iterator[ShownFrame]:
    frames = FlvFrames(view)
    stamps = (FrameStamp(time, usual=frames.frame_duration) for time in frames)
    for time, duration in with_durations(reorder(stamps, _MILLISECONDS)):
        yield _shown_frame(time, duration, _MILLISECONDS, 1 / _MILLISECONDS)


def _mpegts(view: FileView) -> Iterator[ShownFrame]:
    frames = MpegTsFrames(view)
    # They come in order, with jumps that `reorder` would take for reordering.
    for time, duration in with_durations(FrameStamp(time) for time in frames):
        yield _shown_frame(time, duration, frames.rate, 1 / frames.rate)
    if frames.is_scrambled:
        raise NoTimesError("is encrypted")


def _reorder_at(stamps: Iterator[FrameStamp], rate: Callable[[], float]) -> Iterator[FrameStamp]:
    first = next(stamps, None)
    if first is not None:
        yield from reorder(chain((first,), stamps), rate())


def _shown_frame(time: int | None, duration: int | None, rate: float, resolution: float) -> ShownFrame:
    return ShownFrame(
        None if time is None else time / rate, None if duration is None else duration / rate, resolution
    )


_READERS: Final[dict[Callable[[bytes], bool], Callable[[FileView], Iterator[ShownFrame]]]] = {
    is_matroska: _matroska,
    is_mp4: _mp4,
    is_avi: _avi,
    is_flv: _flv,
    is_mpegts: _mpegts,
}
