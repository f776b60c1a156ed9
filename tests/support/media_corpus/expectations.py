"""Comparison of a verdict with what ffprobe decodes, and the differences that are right."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from asynccam.recording import FileVerdict, Verdict
from tests.support.media_corpus.mutations import Kind, Mutation
from tests.support.media_corpus.probe import Probe
from tests.support.media_corpus.recipes import JPEG, MKV, MP4, RAW, TS, Recipe

TOLERANCE: Final = 0.12
"""Seconds that durations may differ by, or one frame interval if that is longer."""

_WORDS: Final = {
    Kind.WHOLE: {Verdict.COMPLETE},
    Kind.TRAILING: {Verdict.COMPLETE},
    Kind.LEADING: {Verdict.COMPLETE, Verdict.DAMAGED},
    Kind.JOINED: {Verdict.COMPLETE, Verdict.DAMAGED},
    Kind.CUT: {Verdict.TRUNCATED, Verdict.DAMAGED},
    Kind.ZEROED_TAIL: {Verdict.TRUNCATED, Verdict.DAMAGED},
    Kind.SPOILED: {Verdict.TRUNCATED, Verdict.DAMAGED},
}
"""The verdicts that are right, by what happened to the file."""


@dataclass(frozen=True)
class Case:
    """A file of the corpus with both answers.

    Attributes:
        recipe: How the good file was made.
        mutation: What happened to it then.
        whole: What ffprobe says of the good file.
        probe: What ffprobe says of this one.
        verdict: What asynccam says of this one.
        may_end_here: Nothing in the file says that more was to come, see `mutations.unit_ends`.
        decodable: Frames that decode once an MP4 file is rid of its last box, if that is cut off.
        untouched: Coded pictures that are at their place as they were.
    """

    recipe: Recipe
    mutation: Mutation
    whole: Probe
    probe: Probe
    verdict: FileVerdict
    may_end_here: bool
    decodable: int
    untouched: int

    def __str__(self) -> str:
        ours, theirs = self.verdict, self.probe
        return (
            f"{self.recipe.name}, {self.mutation.name}: {ours.verdict.value}, {ours.frames} frames,"
            f" {_seconds(ours.duration)} ({ours.detail or 'no detail'});"
            f" ffprobe: {theirs.frames} frames, {_seconds(theirs.duration)}"
        )


@dataclass(frozen=True)
class Difference:
    """A kind of difference from ffprobe that is right.

    Attributes:
        name: What differs.
        why: Why asynccam's answer is right, or as right as ffprobe's.
        applies: Whether a case is of the kind; called only for cases whose verdict is one of the right ones.
    """

    name: str
    why: str
    applies: Callable[[Case], bool]


def _seconds(value: float | None) -> str:
    return "no duration" if value is None else f"{value:.3f} s"


def word_is_right(case: Case) -> bool:
    """Return whether the verdict is one of those that are right for what happened to the file."""
    verdict = case.verdict.verdict
    if case.recipe.container == RAW and verdict is Verdict.UNKNOWN:
        return True
    if case.mutation.kind is Kind.CUT and case.may_end_here:
        return verdict is not Verdict.EMPTY or case.probe.frames == 0
    if case.mutation.kind is Kind.TRAILING and case.recipe.container == MKV and case.recipe.open_ended:
        # What is behind an element of an open segment is read as the next element, which is cut off.
        return verdict is not Verdict.EMPTY
    return verdict in _WORDS[case.mutation.kind]


def names_trailing_bytes(case: Case) -> bool:
    """Return whether bytes behind the end are in the detail."""
    return bool(case.verdict.detail) or case.mutation.kind is not Kind.TRAILING


def same_frames(case: Case) -> bool:
    """Return whether as many frames are counted as ffprobe decodes."""
    return case.verdict.frames == case.probe.frames


def same_duration(case: Case) -> bool:
    """Return whether the duration is that of ffprobe's frames; a raw stream and a still picture have none."""
    ours, theirs = case.verdict.duration, case.probe.duration
    if case.recipe.container in (RAW, JPEG) and ours is None:
        return True
    if ours is None or theirs is None:
        return case.probe.frames == 0 and not ours
    return abs(ours - theirs) <= max(TOLERANCE, case.probe.interval) + 1e-6


def agrees(case: Case) -> bool:
    """Return whether verdict, frames and duration are what ffprobe's answer says."""
    return word_is_right(case) and names_trailing_bytes(case) and same_frames(case) and same_duration(case)


def _plausible_duration(case: Case) -> bool:
    """Return whether the duration differs from ffprobe's by no more than a few frames that may be missing."""
    ours, theirs = case.verdict.duration, case.probe.duration
    if ours is None or theirs is None:
        return same_duration(case) or not case.verdict.frames
    return abs(ours - theirs) <= max(TOLERANCE, (case.mutation.edges + 3) * case.probe.interval)


def _hit_in_part(case: Case) -> bool:
    ours = case.verdict.frames
    if ours is None or case.mutation.kind not in (Kind.CUT, Kind.ZEROED_TAIL, Kind.SPOILED):
        return False
    if not _plausible_duration(case):
        return False
    return case.probe.frames - case.mutation.edges <= ours < case.probe.frames


def _refused_by_the_decoder(case: Case) -> bool:
    ours = case.verdict.frames
    if ours is None or case.mutation.kind not in (Kind.ZEROED_TAIL, Kind.SPOILED):
        return False
    if not _plausible_duration(case):
        return False
    most = case.whole.frames if case.recipe.container == TS else case.untouched + case.mutation.edges
    return case.probe.frames < ours <= min(most, case.whole.frames)


def _no_index(case: Case) -> bool:
    nothing_claimed = case.verdict.frames is None and case.verdict.duration is None
    return case.recipe.container == MP4 and case.probe.frames == 0 and nothing_claimed


def _cut_index(case: Case) -> bool:
    ours, most = case.verdict.frames, case.decodable
    return ours is not None and most - case.mutation.edges <= ours <= most and case.probe.frames < ours


def _second_file(case: Case) -> bool:
    return (
        case.mutation.kind is Kind.JOINED and case.verdict.frames == case.whole.frames and same_length(case)
    )


def same_length(case: Case) -> bool:
    """Return whether the duration is that of the good file."""
    ours, whole = case.verdict.duration, case.whole.duration
    return ours is not None and whole is not None and abs(ours - whole) <= TOLERANCE


def _times_begin_again(case: Case) -> bool:
    ours, whole = case.verdict.duration, case.whole.duration
    if case.mutation.kind is not Kind.JOINED or ours is None or whole is None:
        return False
    return same_frames(case) and abs(ours - 2 * whole) <= 2 * TOLERANCE


def _last_picture_dropped(case: Case) -> bool:
    behind = case.mutation.kind is Kind.TRAILING
    return behind and case.verdict.frames == case.whole.frames and same_length(case)


DIFFERENCES: Final = (
    Difference(
        "pictures hit in part",
        "ffmpeg makes up the rest of a picture whose media is not all there; asynccam does not count it",
        _hit_in_part,
    ),
    Difference(
        "pictures that a decoder refuses",
        "their media is in the file, untouched; ffmpeg drops them because they refer to a spoiled one, or"
        " because it lost its place in the file, and its versions differ in that",
        _refused_by_the_decoder,
    ),
    Difference(
        "no index",
        "the media is there and nothing says where its frames are: their number is unknown",
        _no_index,
    ),
    Difference(
        "index cut off",
        "ffmpeg refuses the whole file for a moov or moof that is cut off; as many frames decode when the box"
        " ends where its last whole part ends",
        _cut_index,
    ),
    Difference(
        "a second file behind the first",
        "most players show the first only, and its frames are counted; ffmpeg reads on into the second",
        _second_file,
    ),
    Difference(
        "time stamps that begin again",
        "the second file is played after the first; its time stamps are those of the first once more",
        _times_begin_again,
    ),
    Difference(
        "the picture in front of trailing bytes",
        "ffmpeg drops the last picture for the bytes behind it, which are not media",
        _last_picture_dropped,
    ),
)
"""The differences that are right; a case that does not agree and is of none of them is a fault."""


def difference(case: Case) -> Difference | None:
    """The documented kind that a case which does not agree belongs to, or None: then it is a fault."""
    if word_is_right(case) and names_trailing_bytes(case):
        return next((kind for kind in DIFFERENCES if kind.applies(case)), None)
    return None
