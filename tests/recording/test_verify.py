"""Verdicts on real files, whole and cut; a cut file is never called complete."""

import asyncio
import os
import subprocess
from pathlib import Path

import pytest

from asynccam.errors import NotFoundError, StorageError, TimeoutError
from asynccam.recording.containers.reader import Intervals
from asynccam.recording.verify import Verdict, verify_file
from tests.support.gst import LAUNCH, decoded_frames
from tests.support.waiting import eventually, eventually_awaited

FRAMES = 12
H264 = ["x264enc", "tune=zerolatency", "key-int-max=4", "!", "h264parse"]
JPEG = ["jpegenc", "!", "jpegparse"]
KINDS = {
    "plain.mp4": [*H264, "!", "mp4mux"],
    "finalized.mp4": [
        *H264,
        *["!", "mp4mux", "fragment-duration=200", "fragment-mode=first-moov-then-finalise"],
    ],
    "fragmented.mp4": [*H264, "!", "mp4mux", "fragment-duration=200"],
    "jpeg.mov": [*JPEG, "!", "qtmux"],
    "h264.mkv": [*H264, "!", "matroskamux"],
    "jpeg.mkv": [*JPEG, "!", "matroskamux"],
    "h264.ts": [*H264, "!", "mpegtsmux"],
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A file of every kind, twelve frames of a tenth of a second each."""
    directory = tmp_path_factory.mktemp("kinds")
    source = [
        "videotestsrc",
        f"num-buffers={FRAMES}",
        "!",
        "video/x-raw,width=64,height=48,framerate=10/1",
        "!",
    ]
    words: list[str] = []
    for name, chain in KINDS.items():
        words += [*source, *chain, "!", "filesink", f"location={directory / name}"]
    subprocess.run([LAUNCH, "-q", *words], check=True)
    return {name: directory / name for name in KINDS}


@pytest.mark.parametrize("name", KINDS)
async def test_whole_file_is_complete_with_frames_and_length(files: dict[str, Path], name: str) -> None:
    verdict = await verify_file(files[name], decode=True)
    # qtmux gives the last JPEG picture no time, so that no player shows it.
    shown = FRAMES - (name == "jpeg.mov")
    assert (verdict.verdict, verdict.frames, verdict.detail) == (Verdict.COMPLETE, shown, "")
    assert verdict.duration == pytest.approx(shown / 10, abs=0.02)
    assert verdict.size == files[name].stat().st_size
    assert await decoded_frames(files[name]) == shown


@pytest.mark.parametrize("name", KINDS)
async def test_time_between_frames_is_known(files: dict[str, Path], name: str) -> None:
    verdict = await verify_file(files[name])
    assert verdict.interval == pytest.approx(0.1, abs=0.002)


def test_usual_interval_is_the_longest_that_repeats() -> None:
    intervals = Intervals()
    assert intervals.usual is None
    intervals.add(0.1)
    assert intervals.usual == 0.1
    for interval in (0.1, 9.0, 0.2, 0.0):
        intervals.add(interval)
    assert intervals.usual == 0.2
    intervals.add(5.0, 0)
    assert intervals.usual == 0.2
    intervals.add(3.0, 2)
    assert intervals.usual == 3.0
    intervals.add(10.0)
    assert intervals.usual == 9.0
    intervals.add(11.0, 4)
    assert intervals.usual == 11.0


@pytest.fixture
def single_frame(tmp_path: Path) -> Path:
    """A Matroska file of one frame that nobody gave a length."""
    picture, path = tmp_path / "a.jpg", tmp_path / "a.mkv"
    source = ["videotestsrc", "num-buffers=1", "!", "video/x-raw,width=64,height=48", "!", "jpegenc"]
    subprocess.run([LAUNCH, "-q", *source, "!", "filesink", f"location={picture}"], check=True)
    frame = ["filesrc", f"location={picture}", "blocksize=1000000", "!", "jpegparse", "!", "matroskamux"]
    subprocess.run([LAUNCH, "-q", *frame, "!", "filesink", f"location={path}"], check=True)
    return path


async def test_single_frame_without_length_is_complete(single_frame: Path) -> None:
    """GStreamer leaves one byte over, where the length of the video would stand."""
    assert b"\xec\x88\x88" + bytes(8) in single_frame.read_bytes()
    verdict = await verify_file(single_frame, decode=True)
    assert (verdict.verdict, verdict.frames, verdict.detail) == (Verdict.COMPLETE, 1, "")
    assert verdict.interval is None


@pytest.mark.parametrize("name", ["plain.mp4", "finalized.mp4", "jpeg.mov", "h264.mkv", "jpeg.mkv"])
async def test_file_cut_anywhere_is_never_complete(files: dict[str, Path], name: str, tmp_path: Path) -> None:
    whole = files[name].read_bytes()
    cut = tmp_path / name
    verdicts = set()
    for size in {*range(0, len(whole), len(whole) // 60), len(whole) - 1}:
        cut.write_bytes(whole[:size])
        verdict = await verify_file(cut)
        assert verdict.verdict is not Verdict.COMPLETE, size
        assert verdict.detail
        assert verdict.frames is None or verdict.frames <= FRAMES
        verdicts.add(verdict.verdict)
    assert Verdict.TRUNCATED in verdicts
    assert Verdict.EMPTY in verdicts


async def test_cut_between_packets_of_a_sized_frame_is_truncated(
    files: dict[str, Path], tmp_path: Path
) -> None:
    """GStreamer says how long each frame is."""
    whole = files["h264.ts"].read_bytes()
    half = tmp_path / "half.ts"
    half.write_bytes(whole[: len(whole) // 376 * 188])
    verdict = await verify_file(half)
    assert (verdict.verdict, verdict.detail) == (Verdict.TRUNCATED, "ends inside an elementary packet")
    assert verdict.frames is not None
    assert 0 < verdict.frames < FRAMES
    half.write_bytes(whole[: len(whole) // 376 * 188 + 5])
    assert (await verify_file(half)).verdict is Verdict.TRUNCATED


async def has_frames(path: Path) -> bool:
    return bool((await verify_file(path)).frames)


async def test_unfinalized_mp4_is_truncated_with_playable_frames(tmp_path: Path) -> None:
    path = tmp_path / "killed.mp4"
    picture = ["videotestsrc", "is-live=true", "!", "video/x-raw,width=64,height=48,framerate=20/1"]
    mux = ["mp4mux", "fragment-duration=200", "fragment-mode=first-moov-then-finalise"]
    process = await asyncio.create_subprocess_exec(
        *[LAUNCH, "-q", *picture, "!", *H264, "!", *mux, "!", "filesink", "buffer-mode=unbuffered"],
        f"location={path}",
    )
    await eventually(path.exists)
    await eventually_awaited(lambda: has_frames(path))
    process.kill()
    await process.wait()
    verdict = await verify_file(path)
    assert verdict.verdict is Verdict.TRUNCATED
    assert verdict.frames is not None
    assert "never finalized" in verdict.detail
    assert await decoded_frames(path) >= verdict.frames > 0


@pytest.mark.parametrize("name", ["plain.mp4", "jpeg.mkv", "h264.ts"])
async def test_headers_without_a_frame_are_empty(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    source = ["videotestsrc", "num-buffers=1", "!", "video/x-raw,width=64,height=48"]
    drop = ["identity", "drop-probability=1"]
    chain = KINDS[name]
    parser = chain.index("!")
    words = [*chain[:parser], "!", *drop, *chain[parser:]]
    process = await asyncio.create_subprocess_exec(
        *[LAUNCH, "-q", *source, "!", *words, "!", "filesink", f"location={path}"]
    )
    assert await process.wait() == 0
    verdict = await verify_file(path)
    assert (verdict.verdict, verdict.frames) == (Verdict.EMPTY, 0)


@pytest.mark.parametrize(
    "contents", [b"\0" * 4096, b"not a video", os.urandom(4096), b"\x1a\x45\xdf\xa3" + b"\xff" * 99]
)
async def test_garbage_is_not_complete(tmp_path: Path, contents: bytes) -> None:
    path = tmp_path / "garbage.mkv"
    path.write_bytes(contents)
    assert (await verify_file(path)).verdict is not Verdict.COMPLETE


async def test_any_damaged_byte_gives_a_verdict(files: dict[str, Path], tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    for name in ("plain.mp4", "fragmented.mp4", "jpeg.mkv", "h264.ts"):
        whole = files[name].read_bytes()
        for at in range(0, min(len(whole), 2000), 13):
            for value in (0x00, 0xFF):
                damaged.write_bytes(whole[:at] + bytes([value]) + whole[at + 1 :])
                assert isinstance((await verify_file(damaged)).verdict, Verdict)


async def test_decode_finds_damage_that_structure_hides(files: dict[str, Path], tmp_path: Path) -> None:
    whole = bytearray(files["jpeg.mov"].read_bytes())
    picture = whole.index(b"\xff\xda", len(whole) // 2)
    whole[picture - 200 : picture] = b"\xff" * 200  # tables and sizes, where fill bytes may be too
    damaged = tmp_path / "damaged.mov"
    damaged.write_bytes(whole)
    assert (await verify_file(damaged)).verdict is Verdict.COMPLETE
    verdict = await verify_file(damaged, decode=True)
    assert verdict.verdict is Verdict.DAMAGED
    assert "frames decode" in verdict.detail


async def test_missing_or_unreadable_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="gone"):
        await verify_file(tmp_path / "gone.mp4")
    with pytest.raises(StorageError, match="cannot read"):
        await verify_file(tmp_path)
    with pytest.raises(NotFoundError, match="does not exist"):
        await verify_file(tmp_path / "a\0b")


@pytest.mark.parametrize("path", ["pipe", "/dev/zero"])
async def test_irregular_file_is_an_error_at_once(tmp_path: Path, path: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StorageError, match="not a regular file"):
        await verify_file(tmp_path / path, timeout=10)


async def test_deadline_holds_and_reader_stops(files: dict[str, Path]) -> None:
    with pytest.raises(TimeoutError, match=r"verdict on jpeg\.mkv"):
        await verify_file(files["jpeg.mkv"], timeout=0)


async def test_long_file_takes_little_time_and_memory(tmp_path: Path) -> None:
    """Fifty thousand frames of Matroska, made of headers and holes."""
    path = tmp_path / "long.mkv"
    with path.open("wb") as file:
        file.write(bytes.fromhex("1a45dfa3 80 18538067 01ffffffffffffff"))
        file.write(bytes.fromhex("1654ae6b 88 ae 86 d7 81 01 83 81 01"))
        for _ in range(500):
            file.write(bytes.fromhex("1f43b675 01ffffffffffffff e7 81 00"))
            for _ in range(100):
                file.write(bytes.fromhex("a3 4404 81 0000 80") + bytes(1024))
    verdict = await verify_file(path, timeout=20)
    assert verdict.frames == 50_000
    assert "never finalized" in verdict.detail
