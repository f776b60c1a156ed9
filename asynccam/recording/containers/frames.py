"""Times of the frames in a file, by the reader of its format."""

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from asynccam.recording.containers.avi import AviFrames, is_avi
from asynccam.recording.containers.flv import FlvFrames, is_flv
from asynccam.recording.containers.matroska import MatroskaFrames, is_matroska
from asynccam.recording.containers.mp4.frames import Mp4Frames
from asynccam.recording.containers.mp4.layout import is_mp4
from asynccam.recording.containers.mpegts import MpegTsFrames, is_mpegts
from asynccam.recording.containers.reader import FileView, NoTimesError
from asynccam.recording.containers.scan import choose_format, only_zeros
from asynccam.recording.containers.stamps import Stamp, in_order, with_durations

_NANOSECONDS: Final = 1_000_000_000
_MILLISECONDS: Final = 1000
_HALF: Final = 1 << 63
_WHOLE: Final = 1 << 64


class Shown(NamedTuple):
    """One frame, in the order in which frames are shown.

    Attributes:
        time: When it is shown, seconds on the file's own time line, or None.
        duration: For how long, seconds, or None.
        resolution: Step of the file's times, seconds.
    """

    time: float | None
    duration: float | None
    resolution: float


def read_frames(view: FileView) -> Iterator[Shown]:
    """Give every frame that a verdict counts, in constant memory; for use in a thread.

    Raises:
        NoTimesError: The file does not tell when its frames are shown.
        AbortedError, OSError: From the view.
    """
    is_format = choose_format(view)
    if is_format is None:
        if only_zeros(view):
            return  # a verdict says that it holds no frame
        raise NoTimesError("is of a format that is not understood")
    reader = _READERS.get(is_format)
    if reader is None:
        raise NoTimesError("is of a format that does not tell when its frames are shown")
    yield from reader(view)


def _matroska(view: FileView) -> Iterator[Shown]:
    frames = MatroskaFrames(view)

    def stamps() -> Iterator[Stamp]:
        for time, duration in frames:
            # What fell below zero comes back from above in 64 bits of nanoseconds.
            if time is not None and time >= _HALF:
                time -= _WHOLE
            yield Stamp(time, duration, frames.frame_duration)

    for time, duration in with_durations(in_order(stamps(), _NANOSECONDS)):
        yield _shown(time, duration, _NANOSECONDS, frames.tick / _NANOSECONDS)
    if not frames.is_matroska:
        raise NoTimesError("is of a format that is not understood")
    if frames.untold:
        raise NoTimesError("does not tell what its tracks are")


def _mp4(view: FileView) -> Iterator[Shown]:
    frames = Mp4Frames(view)

    def stamps() -> Iterator[Stamp]:
        yield from frames

    early: int | None = None
    # The rate is known when the first frame is, which comes before any other.
    for time, duration in with_durations(_ordered_by(stamps(), lambda: frames.rate)):
        if early is None:
            # An edit may begin inside a frame, which is left out. As ffmpeg does, the first frame that begins
            # inside the edit is shown from the edit's own beginning on, and all others as much earlier.
            early = 0 if frames.pauses is None else max(0, (time or 0) - frames.pauses)
        yield _shown(None if time is None else time - early, duration, frames.rate, 1 / frames.rate)


def _avi(view: FileView) -> Iterator[Shown]:
    frames = AviFrames(view)

    def stamps() -> Iterator[Stamp]:
        for tick in frames:
            if not frames.timed:
                raise NoTimesError("does not tell how many frames it shows in a second")
            yield Stamp(tick, usual=1)

    for time, duration in with_durations(_ordered_by(stamps(), lambda: frames.rate)):
        yield _shown(time, duration, frames.rate, 1 / frames.rate)


def _flv(view: FileView) -> Iterator[Shown]:
    frames = FlvFrames(view)
    stamps = (Stamp(time, usual=frames.frame_duration) for time in frames)
    for time, duration in with_durations(in_order(stamps, _MILLISECONDS)):
        yield _shown(time, duration, _MILLISECONDS, 1 / _MILLISECONDS)


def _mpegts(view: FileView) -> Iterator[Shown]:
    frames = MpegTsFrames(view)
    # They come in order, with jumps that `in_order` would take for reordering.
    for time, duration in with_durations(Stamp(time) for time in frames):
        yield _shown(time, duration, frames.rate, 1 / frames.rate)
    if frames.is_scrambled:
        raise NoTimesError("is encrypted")


def _ordered_by(stamps: Iterator[Stamp], rate: Callable[[], float]) -> Iterator[Stamp]:
    first = next(stamps, None)
    if first is not None:
        yield from in_order(_behind(first, stamps), rate())


def _behind(first: Stamp, rest: Iterator[Stamp]) -> Iterator[Stamp]:
    yield first
    yield from rest


def _shown(time: int | None, duration: int | None, rate: float, resolution: float) -> Shown:
    return Shown(
        None if time is None else time / rate, None if duration is None else duration / rate, resolution
    )


_READERS: Final[dict[Callable[[bytes], bool], Callable[[FileView], Iterator[Shown]]]] = {
    is_matroska: _matroska,
    is_mp4: _mp4,
    is_avi: _avi,
    is_flv: _flv,
    is_mpegts: _mpegts,
}
