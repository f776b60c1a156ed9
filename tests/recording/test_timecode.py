"""The time code of test pictures: letters, running time, and the time of day by when it is asked for."""

import asyncio
import os
import time
from datetime import datetime
from fractions import Fraction
from itertools import islice
from pathlib import Path

import pytest

from asynccam.recording import TestPattern, timecode
from asynccam.recording.gstlaunch import Element, Graph
from asynccam.recording.installation import find_installation
from asynccam.recording.process import LaunchProcess, StopDeadlines
from asynccam.recording.timecode import DayTime, day_time, draw, pictures, text_size
from asynccam.systems.thorvision.simulator_frames import JpegSplitter
from tests.support.day_codes import pictures_of, read_time

FPS = Fraction(30)


def test_running_time_is_that_of_the_frame() -> None:
    assert list(islice(pictures("a", FPS, 1), 2)) == [draw("a 00:00:00.000", 1), draw("a 00:00:00.033", 1)]


def test_the_first_pictures_have_no_time_of_day_and_all_are_of_one_size() -> None:
    feed = DayTime("cam", FPS, 2, lambda: 1_700_000_000.0)
    width, height = text_size(len("cam 00:00:00.000"), 2)
    shown = list(islice(feed, 30))
    assert {len(one) for one in shown} == {width * height}
    assert shown[: feed.warming] == [draw("cam --:--:--.---", 2)] * feed.warming
    assert shown[feed.warming] != shown[0]


@pytest.mark.parametrize("delay", [0.0, 0.5, 20.0])
def test_no_delay_after_the_first_time_makes_times_late(delay: float) -> None:
    began, now = 1_700_000_000.25, 1_600_000_000.0
    feed = DayTime("", FPS, 4, lambda: now)
    for _ in range(feed.warming):
        next(feed)
    now = began
    shown = [next(feed)]
    for number in range(60):
        now = began + number / 30 + delay
        shown.append(next(feed))
    due = [began + (feed.warming + number) / 30 for number in range(61)]
    assert shown == [draw(day_time(one), 4) for one in due]


def test_time_of_day_is_this_computers() -> None:
    now = time.time()
    shown = datetime.strptime(day_time(now), "%H:%M:%S.%f")
    assert (shown.hour, shown.minute, shown.second) == time.localtime(now)[3:6]
    assert len(day_time(now)) == timecode.CODE_LENGTH


async def test_no_picture_comes_before_the_time_it_shows_however_busy_the_loop_is(tmp_path: Path) -> None:
    tools = await find_installation()
    drawn = TestPattern(width=640, height=360, fps=FPS, time_code="day", codec="jpeg").stream(tools.elements)
    assert drawn.feed is not None
    out, into = os.pipe()
    sink = Element("fdsink", {"fd": into, "sync": False, "async": False})
    argv = [tools.launch, "-m", *Graph(((*drawn.chain, sink), *drawn.others)).arguments()]
    process = await LaunchProcess.start(argv, lambda _: None, feed=drawn.feed(), pass_fds=[into])
    os.close(into)
    reading = asyncio.create_task(asyncio.to_thread(_arrivals, out, 40))
    try:
        while not reading.done():
            time.sleep(0.1)  # noqa: ASYNC251 - a loop that is blocked again and again
            await asyncio.sleep(0.02)
        arrived = await reading
    finally:
        await process.stop(StopDeadlines(interrupt=0.5, terminate=0.5))
        os.close(out)
    path = tmp_path / "pictures.mjpeg"
    path.write_bytes(b"".join(picture for _, picture in arrived))
    width, pictures = await pictures_of(path)
    shown = [read_time(picture, width, near=arrived[0][0]) for picture in pictures]
    assert len(shown) == len(arrived)
    late = [
        time_shown - at
        for time_shown, (at, _) in zip(shown, arrived, strict=True)
        if time_shown is not None and time_shown > at
    ]
    assert late == []
    assert sum(one is not None for one in shown) > 30


def _arrivals(descriptor: int, count: int) -> list[tuple[float, bytes]]:
    splitter = JpegSplitter()
    found: list[tuple[float, bytes]] = []
    while len(found) < count and (data := os.read(descriptor, 1 << 16)):
        found += [(time.time(), picture) for picture in splitter.feed(data)]
    return found[:count]
