"""Motion JPEG with pictures that are spoiled: each costs itself, is counted, and nothing else is lost."""

import asyncio
import itertools
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynccam.recording import (
    Pipeline,
    Recorder,
    RecorderEnded,
    SingleFile,
    SplitFiles,
    SrtJpegSource,
    Verdict,
    Watch,
    verify_file,
)
from asynccam.recording.events import RecorderProgress
from asynccam.recording.jpeg_filter import JpegFilter
from tests.support.gst import LAUNCH, decoded_frames, free_udp_port, gst_processes, shown_times
from tests.support.waiting import eventually

COUNT = 40
SPOILED = 13


def scan(picture: bytes) -> int:
    """Return where the entropy-coded data of a picture begins, about."""
    return picture.index(b"\xff\xda") + 14


def garbage(count: int) -> bytes:
    return random.Random(count).randbytes(count)


WAYS: dict[str, Callable[[bytes], bytes]] = {
    "no end": lambda one: one[:-2],
    "half": lambda one: one[: len(one) // 2],
    "garbage": lambda one: garbage(len(one)),
    "garbage between its markers": lambda one: one[:2] + garbage(len(one) - 4) + one[-2:],
    "garbage in its data": lambda one: one[: scan(one)] + b"\xff\x07" + garbage(300) + one[-2:],
    "half a header": lambda one: one[:150],
    "a marker alone": lambda one: one[:2],
    "no beginning": lambda one: one[len(one) // 2 :],
    "zeros": lambda one: bytes(len(one)),
    "a length too long": lambda one: one[:4] + b"\xff\xff" + one[6:],
    "no frame header": lambda one: one.replace(b"\xff\xc0", b"\xff\xe5"),
}


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Sequence[bytes]:
    """Whole pictures, no two alike."""
    directory = tmp_path_factory.mktemp("pictures")
    caps = "video/x-raw,format=I420,width=64,height=48,framerate=20/1"
    words = f"-q videotestsrc num-buffers={COUNT} pattern=snow ! {caps} ! jpegenc quality=40 ! multifilesink"
    subprocess.run([LAUNCH, *words.split(), f"location={directory}/%03d"], check=True)
    found = [path.read_bytes() for path in sorted(directory.iterdir())]
    assert len({*found}) == COUNT
    return found


def split(data: bytes, step: int) -> tuple[list[bytes], JpegFilter]:
    one = JpegFilter()
    whole = [picture for at in range(0, len(data), step) for picture, _ in one.feed(data[at : at + step])]
    return whole, one


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("place", [0, SPOILED])
def test_spoiled_picture_is_left_out_alone(pictures: Sequence[bytes], way: str, place: int) -> None:
    sent = [*pictures]
    sent[place] = WAYS[way](sent[place])
    for step in (1, 100, 1316, 1 << 20):
        whole, one = split(b"".join(sent), step)
        assert whole == [*pictures[:place], *pictures[place + 1 :]]
        assert one.spoiled == 1


def test_spoiled_pictures_in_a_row_are_counted(pictures: Sequence[bytes]) -> None:
    sent = [*pictures]
    sent[5:9] = [picture[: scan(picture) + 40] for picture in sent[5:9]]
    whole, one = split(b"".join(sent), 1316)
    assert (whole, one.spoiled) == ([*pictures[:5], *pictures[9:]], 4)


def test_padding_and_fill_bytes_spoil_nothing(pictures: Sequence[bytes]) -> None:
    padded = b"".join(bytes(11) + picture + b"\xff\xff" for picture in pictures)
    whole, one = split(padded, 777)
    assert (len(whole), one.spoiled) == (COUNT, 0)


def test_thumbnail_is_part_of_its_picture(pictures: Sequence[bytes]) -> None:
    at = pictures[0].index(b"\xff\xc0") + 5
    small = pictures[0][:at] + bytes((0, 32, 0, 16)) + pictures[0][at + 4 :]
    segment = b"\xff\xe1" + (2 + len(small)).to_bytes(2) + small
    big = [picture[:2] + segment + picture[2:] for picture in pictures]
    assert split(b"".join(big), 100)[0] == big


def test_picture_size_may_change(pictures: Sequence[bytes]) -> None:
    at = pictures[0].index(b"\xff\xc0") + 5
    other = [picture[:at] + bytes((0, 32, 0, 16)) + picture[at + 4 :] for picture in pictures]
    whole, one = split(b"".join((*pictures[:10], *other[:10])), 1316)
    assert (whole, one.spoiled) == ([*pictures[:10], *other[2:10]], 2)


@given(st.binary(max_size=3000), st.integers(1, 400))
def test_filter_accepts_any_bytes(junk: bytes, step: int) -> None:
    whole, one = split(b"\xff\xd8\xff" + junk, step)
    assert sum(map(len, whole)) <= len(junk) + 3
    assert one.spoiled >= 0


# -- real recordings -----------------------------------------------------------------------------


class Sender:
    """An SRT listener that sends what it is given, as a ThorVision server does."""

    def __init__(self) -> None:
        self.port = free_udp_port()
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> "Sender":
        uri = f"uri=srt://127.0.0.1:{self.port}?mode=listener"
        self._process = await asyncio.create_subprocess_exec(
            *[LAUNCH, "-q", "fdsrc", "fd=0", "blocksize=1316", "!", "srtsink", uri, "latency=20"],
            *["wait-for-connection=true", "sync=false"],
            stdin=asyncio.subprocess.PIPE,
        )
        return self

    async def send(self, data: bytes) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(data)
        await self._process.stdin.drain()

    async def __aexit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.kill()
        await self._process.communicate()


async def recorded(
    recorder: Recorder, sender: Sender, sent: Sequence[bytes], then: bytes, frames: int
) -> None:
    """Send pieces at their pace, then one of them again and again until so many frames are counted."""

    async def send() -> None:
        for piece in itertools.chain(sent, itertools.repeat(then)):
            await sender.send(piece)
            await asyncio.sleep(0.02)  # the pace of the pictures

    async with recorder, sender, asyncio.TaskGroup() as group:
        events = recorder.events
        with events.stream(RecorderProgress) as progress, events.stream(RecorderEnded) as ended:
            sending = group.create_task(send())
            await recorder.start()
            async with asyncio.timeout(20):
                async for event in progress:
                    if event.frames >= frames:
                        break
            await recorder.stop()
            sending.cancel()
            assert (await anext(ended)).spoiled == recorder.spoiled


@pytest.mark.parametrize("way", ["no end", "half", "garbage", "a length too long"])
@pytest.mark.parametrize("first", [True, False], ids=["first", "later"])
async def test_recording_continues_after_spoiled_picture(
    tmp_path: Path, pictures: Sequence[bytes], way: str, first: bool
) -> None:
    sender, place = Sender(), 0 if first else SPOILED
    sent = [*pictures]
    sent[place] = WAYS[way](sent[place])
    recorder = Recorder(
        Pipeline(SrtJpegSource("127.0.0.1", sender.port, latency=20), SplitFiles(tmp_path, "cam")),
        watch=Watch(interval=0.1),
    )
    await recorded(recorder, sender, sent, pictures[-1], COUNT)
    (verdict,) = recorder.verdicts
    assert (recorder.error, recorder.spoiled, verdict.verdict) == (None, 1, Verdict.COMPLETE)
    assert verdict.frames == await decoded_frames(verdict.path)
    assert verdict.frames >= COUNT


@pytest.mark.parametrize("name", ["a.mkv", "a.mov"])
async def test_pictures_waiting_for_recorder_have_times(
    tmp_path: Path, pictures: Sequence[bytes], name: str
) -> None:
    """Several small pictures in one piece: each has a time of its own, and none lies before the first."""
    sender = Sender()
    recorder = Recorder(
        Pipeline(SrtJpegSource("127.0.0.1", sender.port, latency=20), SingleFile(tmp_path / name)),
        watch=Watch(interval=0.1),
    )
    pairs = [one + other for one, other in itertools.pairwise(pictures)]
    together = [b"".join(pictures[:20]), *pairs]
    await recorded(recorder, sender, together, pairs[-1], 50)
    (verdict,) = recorder.verdicts
    shown = await shown_times(verdict.path)
    assert shown == sorted({*shown})
    assert shown[0] == 0
    assert shown[-1] < 30
    assert verdict.duration is not None
    assert verdict.duration < 30


PARENT = """
import asyncio, sys
from pathlib import Path
from asynccam.recording import Pipeline, Recorder, SingleFile, SrtJpegSource

async def main():
    source = SrtJpegSource("127.0.0.1", int(sys.argv[2]), latency=20)
    async with Recorder(Pipeline(source, SingleFile(Path(sys.argv[1])))) as recorder:
        await recorder.start()
        print("recording", flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_killed_python_leaves_whole_file_and_no_filter(
    tmp_path: Path, pictures: Sequence[bytes]
) -> None:
    path = tmp_path / "a.mkv"
    async with Sender() as sender:
        parent = await asyncio.create_subprocess_exec(
            *[sys.executable, "-c", PARENT, str(path), str(sender.port)], stdout=asyncio.subprocess.PIPE
        )
        assert parent.stdout is not None

        async def send() -> None:
            while True:
                for picture in pictures:
                    await sender.send(picture)
                    await asyncio.sleep(0.02)  # the pace of the pictures

        sending = asyncio.create_task(send())
        assert await parent.stdout.readline() == b"recording\n"
        parent.send_signal(signal.SIGKILL)
        await parent.wait()
        await eventually(lambda: not gst_processes(path))
        sending.cancel()
        await asyncio.wait({sending})
    verdict = await verify_file(path)
    assert verdict.verdict is Verdict.COMPLETE, verdict
    assert verdict.frames == await decoded_frames(path)
