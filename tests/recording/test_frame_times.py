"""Times of frames, held against ffprobe's and against what verdicts count."""

import json
import os
import subprocess
import tracemalloc
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest

from asynccam.errors import AsynccamError, NotFoundError, StorageError, TimeoutError, UsageError
from asynccam.recording import FrameTime, frame_times, verify_file
from tests.recording.containers.test_mp4 import edits
from tests.support.cancelling import cancelled_at
from tests.support.media_corpus.cache import base_bytes, base_file
from tests.support.media_corpus.mutations import mutations_of
from tests.support.media_corpus.recipes import AVI, BASES, FLV, MKV, MP4, TS, Recipe

TIMED = (MP4, MKV, TS, AVI, FLV)


async def read(path: Path) -> list[FrameTime]:
    return [frame async for frame in frame_times(path)]


async def drained(path: Path) -> None:
    await read(path)


def told(frames: Sequence[FrameTime]) -> list[float]:
    """The times, all of which have to be there."""
    assert [frame.index for frame in frames] == list(range(len(frames)))
    return [frame.time for frame in frames if frame.time is not None]


def ffprobe(path: Path) -> list[float]:
    """The times of the frames that ffprobe decodes."""
    shown = ["-show_entries", "frame=best_effort_timestamp_time", "-of", "json", str(path)]
    done = subprocess.run(
        ["ffprobe", "-v", "quiet", "-select_streams", "v:0", *shown], capture_output=True, check=False
    )
    frames = json.loads(done.stdout or b"{}").get("frames", [])
    return [float(frame["best_effort_timestamp_time"]) for frame in frames]


def ffmpeg(path: Path, *options: str, source: Sequence[str] = ()) -> Path:
    picture = source or ("-f", "lavfi", "-i", "testsrc=s=64x48:r=25:d=4")
    subprocess.run(["ffmpeg", "-v", "error", "-y", *picture, *options, str(path)], check=True)
    return path


def farthest(ours: Sequence[float], theirs: Sequence[float]) -> float:
    assert len(ours) == len(theirs) > 0
    return max(abs(one - other) for one, other in zip(ours, theirs, strict=True))


# -- against ffprobe --------------------------------------------------------------------------------

X264 = ("-c:v", "libx264", "-bf", "3", "-g", "20", "-preset", "ultrafast", "-b_strategy", "0")
X265 = ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=error:bframes=3")
FRAGMENTS = ("-movflags", "frag_keyframe+empty_moov")
LATE_FRAGMENTS = ("-movflags", "frag_keyframe+delay_moov")
# Frames 20 to 60 and two more of every seven are missing, and the rest comes at a pace of its own.
VARIABLE = (
    *("-vf", "select='not(between(n,20,60))*gt(mod(n,7),1)',setpts=PTS*1.0137+7", "-vsync", "vfr"),
    *("-enc_time_base", "1:90000"),
)
MADE: dict[str, tuple[str, ...]] = {
    **{f"h264-b.{end}": X264 for end in ("mp4", "mov", "mkv", "ts", "flv")},
    **{f"h265-b.{end}": X265 for end in ("mp4", "mkv", "ts")},
    **{f"variable.{end}": (*VARIABLE, *X264) for end in ("mp4", "mov", "mkv", "ts", "flv")},
    "variable-fragments.mp4": (*VARIABLE, *X264, *FRAGMENTS),
    "variable-vp8.webm": (*VARIABLE, "-c:v", "libvpx", "-b:v", "200k", "-deadline", "realtime"),
    "variable-h265.ts": (*VARIABLE, *X265),
    "fragments.mp4": (*X264, *FRAGMENTS),
    "late-fragments.mp4": (*X264, *LATE_FRAGMENTS),
    **{f"later.{end}": (*X264, "-output_ts_offset", "3.5") for end in ("mp4", "mkv", "ts", "flv")},
    "days.ts": (*X264, "-output_ts_offset", "95300"),
    "open-gop.ts": ("-c:v", "libx264", "-bf", "3", "-x264-params", "open-gop=1:keyint=20"),
    "slow.mkv": ("-r", "0.5", *X264),
    "jpeg.avi": ("-c:v", "mjpeg"),
}


@pytest.mark.parametrize("name", MADE)
async def test_times_are_those_of_ffprobe(tmp_path: Path, name: str) -> None:
    path = ffmpeg(tmp_path / name, *MADE[name])
    frames = await read(path)
    assert farthest(told(frames), ffprobe(path)) <= 0.001
    assert len(frames) == (await verify_file(path)).frames


CUTS: dict[str, tuple[str, ...]] = {
    "edit.mp4": (),
    "edit-later.mp4": ("-output_ts_offset", "2"),
    "edit-fragments.mp4": LATE_FRAGMENTS,
    "edit.mkv": (),
}


@pytest.mark.parametrize("name", CUTS)
async def test_edit_list_moves_times_as_for_ffprobe(tmp_path: Path, name: str) -> None:
    whole = ffmpeg(tmp_path / "whole.mp4", *X264)
    # 1.33 s lies inside a frame and behind a key frame, so that an edit has to leave some out.
    cut = ("-ss", "1.33", "-i", str(whole))
    path = ffmpeg(tmp_path / name, "-c", "copy", *CUTS[name], source=cut)
    assert farthest(told(await read(path)), ffprobe(path)) <= 0.001


@pytest.fixture
def by_edits(tmp_path: Path) -> Callable[..., Path]:
    """A file of 50 frames at 25 a second with an edit list: rows in ms of length and ticks of 1/12800 s."""
    picture = ("-f", "lavfi", "-i", "testsrc=s=64x48:r=25:d=2")
    plain = ffmpeg(tmp_path / "plain.mp4", "-c:v", "mjpeg", source=picture).read_bytes()

    def make(*rows: tuple[int, int]) -> Path:
        path = tmp_path / "edited.mp4"
        path.write_bytes(edits(*rows)(plain))
        return path

    return make


async def test_edit_list_pauses_repeats_and_stretches(by_edits: Callable[..., Path]) -> None:
    second = 12800
    pause = told(await read(by_edits((400, 0), (1000, -1), (400, second))))
    assert pause == pytest.approx([n / 25 for n in range(10)] + [1.4 + n / 25 for n in range(10)])
    twice = told(await read(by_edits((1000, 0), (1000, 0))))
    assert twice == pytest.approx([n / 25 for n in range(50)])
    overlap = told(await read(by_edits((1000, 0), (1000, second // 2))))
    assert overlap == pytest.approx([n / 25 for n in range(25)] + [1.02 + n / 25 for n in range(25)])
    backwards = told(await read(by_edits((400, second), (400, 0))))
    assert backwards == pytest.approx([n / 25 for n in range(20)])
    assert told(await read(by_edits((1000, -1), (2000, 0))))[0] == pytest.approx(1.0)
    assert await read(by_edits((1000, -1))) == []
    # The second edit ends inside a frame, which is cut short there.
    assert (await read(by_edits((1000, 0), (430, 0))))[-1].duration == pytest.approx(0.03)


async def test_times_continue_when_stream_clock_wraps(tmp_path: Path) -> None:
    path = ffmpeg(tmp_path / "wrap.ts", *X264, "-output_ts_offset", "95441.5")  # 2**33 / 90000 is 95443.7
    ours, theirs = told(await read(path)), ffprobe(path)
    assert ours[0] < (1 << 33) / 90000 < ours[-1]
    assert farthest([one - ours[0] for one in ours], [one - theirs[0] for one in theirs]) <= 0.001


async def test_times_have_outages_and_restart_with_a_second_stream(tmp_path: Path) -> None:
    outage = ("-vf", "select='not(between(n,20,60))',setpts='(N+gte(N,20)*750)/25/TB'", "-vsync", "vfr")
    path = ffmpeg(tmp_path / "outage.ts", *outage, *X264)
    times = told(await read(path))
    assert farthest(times, ffprobe(path)) <= 0.001
    assert max(b - a for a, b in pairwise(times)) == pytest.approx(30, abs=0.1)
    (tmp_path / "two.ts").write_bytes(path.read_bytes() * 2)
    frames = await read(tmp_path / "two.ts")
    assert told(frames) == [*times, *times]
    assert frames[len(times) - 1].duration is None


async def test_frames_of_an_open_group_count_as_in_verdicts(tmp_path: Path) -> None:
    whole = ffmpeg(tmp_path / "open.ts", *MADE["open-gop.ts"])
    path = tmp_path / "cut.ts"
    path.write_bytes(whole.read_bytes()[188 * 60 :])
    frames = await read(path)
    assert len(frames) == (await verify_file(path)).frames
    assert set(ffprobe(path)) <= {round(time, 6) for time in told(frames)}


# -- against verdicts -------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", [one for one in BASES if one.container in TIMED], ids=str)
async def test_corpus_agrees_with_ffprobe(recipe: Recipe) -> None:
    path = base_file(recipe.name)
    frames = await read(path)
    ours, theirs = told(frames), ffprobe(path)
    if "wrap" in recipe.name or recipe.container == AVI:
        # ffprobe counts before a wrap from below 0. AVI has decoding times only, which it shows as they are.
        ours, theirs = ([one - times[0] for one in times] for times in (ours, theirs))
    common = min(len(ours), len(theirs))  # qtmux leaves its last picture out of the edit list
    assert farthest(ours[:common], theirs[:common]) <= max(0.001, frames[0].resolution)
    assert len(frames) == (await verify_file(path)).frames


@pytest.mark.parametrize("recipe", BASES, ids=str)
async def test_as_many_times_as_frames_in_every_spoiled_file(recipe: Recipe, tmp_path: Path) -> None:
    good, wrong = base_bytes(recipe.name), []
    for mutation in mutations_of(recipe, good):
        path = tmp_path / recipe.name
        path.write_bytes(mutation.apply(good))
        verdict = await verify_file(path)
        try:
            count: int | None = len(await read(path))
        except UsageError:
            count = None
        if count != verdict.frames and not (count is None and recipe.container not in TIMED):
            wrong.append((str(mutation), count, verdict))
    assert wrong == []


MANY = ("-f", "lavfi", "-i", "color=s=16x16:r=1000:d=16")

# -- what else there is to a frame ------------------------------------------------------------------


async def test_durations_are_stated_or_last_until_the_next_frame(tmp_path: Path) -> None:
    path = ffmpeg(tmp_path / "v.mp4", *VARIABLE, *X264)
    frames = await read(path)
    times = told(frames)
    steps = [b - a for a, b in pairwise(times)]
    assert [frame.duration for frame in frames[:-1]] == pytest.approx(steps)
    verdict = await verify_file(path)
    assert times[-1] + (frames[-1].duration or 0) - times[0] == pytest.approx(verdict.duration)
    stream = await read(ffmpeg(tmp_path / "v.ts", *X264))
    assert stream[-1].duration is None
    assert {frame.resolution for frame in stream} == {1 / 90000}
    assert (await read(ffmpeg(tmp_path / "v.mkv", *X264)))[0].resolution == 0.001


async def test_memory_does_not_grow_with_file(tmp_path: Path) -> None:
    path = ffmpeg(tmp_path / "long.mkv", "-c:v", "mjpeg", source=MANY)
    count, peaks = 0, []
    tracemalloc.start()
    try:
        async for frame in frame_times(path):
            count += 1
            if frame.index % 2000 == 1999:
                peaks.append(tracemalloc.get_traced_memory()[1])
                tracemalloc.reset_peak()
    finally:
        tracemalloc.stop()
    assert count == 16_000
    assert max(peaks[1:]) < 2 * peaks[0] + 500_000


# -- errors and leaving -----------------------------------------------------------------------------


def opened(path: Path) -> list[Path]:
    links = []
    for one in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            links.append(one.readlink())
    return [link for link in links if link == path]


async def test_files_without_times_say_why(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="does not exist"):
        await read(tmp_path / "nothing.mp4")
    with pytest.raises(StorageError, match="cannot read"):
        await read(tmp_path)
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(AsynccamError):
        await read(tmp_path / "pipe.mp4")
    (tmp_path / "text.mp4").write_text("nothing of the kind\n" * 99)
    with pytest.raises(UsageError, match=r"text\.mp4 has no frame times: it is of a format that is not und"):
        await read(tmp_path / "text.mp4")
    for name in ("picture.jpg", "raw.h264"):
        path = ffmpeg(tmp_path / name, *(("-frames:v", "1") if name.endswith("jpg") else X264))
        with pytest.raises(UsageError, match="without frame times"):
            await read(path)
    whole = ffmpeg(tmp_path / "whole.mp4", *X264)
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[:-3000])
    with pytest.raises(UsageError, match="no frame times: it has no index"):
        await read(cut)
    (tmp_path / "empty.mp4").touch()
    assert await read(tmp_path / "empty.mp4") == []


async def test_leaving_early_leaves_no_file_open(tmp_path: Path) -> None:
    path = ffmpeg(tmp_path / "v.mkv", "-c:v", "mjpeg", source=MANY)
    frames = frame_times(path)
    assert (await anext(frames)).index == 0
    assert opened(path)
    await frames.aclose()
    assert not opened(path)
    for turns in range(1, 9):
        await cancelled_at(drained(path), turns)
        assert not opened(path)


async def test_deadline_holds_and_closes_file(tmp_path: Path) -> None:
    path = ffmpeg(tmp_path / "v.mkv", "-c:v", "mjpeg", source=MANY)
    with pytest.raises(TimeoutError, match=r"frame times of v\.mkv"):
        async for _ in frame_times(path, timeout=0.0):
            pass
    assert not opened(path)
