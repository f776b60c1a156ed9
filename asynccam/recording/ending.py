"""When a recording's last frame came, told by its files and by what was counted meanwhile."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from asynccam.model.ending import EarlyEnd, end_tolerance
from asynccam.recording.events import EndReason
from asynccam.recording.run import Run
from asynccam.recording.verdict import FileVerdict

if TYPE_CHECKING:
    from asynccam.recording.recorder import Recorder

_COUNTED_EVERY: Final = 1.0
"""Seconds between two counts of frames: so much later than the last count the last frame may have come."""


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of a recording's video.

    Attributes:
        at: When the last frame was there, Unix seconds.
        came_at: The same by the length of the files, monotonic seconds, or None where they do not tell.
        seen_at: When a frame was last counted, monotonic seconds.
        began_at: When the first frame of the last run was there, monotonic seconds.
        interval: Seconds that usually lie between two frames at most.
        reason: What ended it before it was asked to, in words.
    """

    at: float
    came_at: float | None
    seen_at: float
    began_at: float
    interval: float
    reason: str

    def early(self, asked_at: float | None) -> EarlyEnd | None:
        """Whether it ended early.

        Both the files and the counts have to say so: the files alone would call it early when a busy computer
        makes a video whose time lags behind, the counts alone when a busy program has not read them yet.

        Args:
            asked_at: When it was told to end or reached its limit, monotonic seconds, or None for not at all.
        """
        if asked_at is None:
            return EarlyEnd(self.at, None, self.reason)
        tolerance = end_tolerance(asked_at - self.began_at, self.interval)
        if self.came_at is None:
            silent, missing = asked_at - self.seen_at - _COUNTED_EVERY, asked_at - self.seen_at
        else:
            missing = asked_at - self.came_at
            silent = min(missing, asked_at - self.seen_at)
        return EarlyEnd(self.at, missing, self.reason) if silent > tolerance else None


def ending_of(recorder: "Recorder", run: Run, verdicts: Sequence[FileVerdict], stall: float) -> Ending:
    """What is known of the end of a recording that is over.

    Args:
        recorder: Whose it is.
        run: The last one that had a frame.
        verdicts: On its files.
        stall: Seconds that count for a stall; of a single frame nobody knows how often others should come.
    """
    length = run.length(verdicts)
    came_at = None if length is None else run.began_at + length
    last = run.seen_at if came_at is None else came_at
    reason = "no frame came any more"
    if recorder.error is not None:
        reason = str(recorder.error)
    elif recorder.reason is EndReason.END_OF_STREAM:
        reason = "the stream ended"
    stalled = bool(recorder.gaps) and not recorder.gaps[-1].resumed
    return Ending(
        at=run.first_frame.result() + last - run.began_at,
        came_at=came_at,
        seen_at=run.seen_at,
        began_at=run.began_at,
        # A stall has been longer than what is usual already.
        interval=0.0 if stalled else _interval(run, verdicts, length, stall),
        reason=reason,
    )


def _interval(run: Run, verdicts: Sequence[FileVerdict], length: float | None, stall: float) -> float:
    known = [one.interval for one in verdicts if one.interval is not None]
    if known:
        return max(known)
    frames = max(run.frames, sum(one.frames or 0 for one in verdicts))
    passed = run.seen_at - run.began_at if length is None else length
    return passed / (frames - 1) if frames > 1 and passed > 0 else stall
