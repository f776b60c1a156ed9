"""The time code of test pictures: letters, running time, and the time of day by when it is asked for."""

import time
from datetime import datetime
from fractions import Fraction
from itertools import islice

from asynccam.recording.mosaic import timecode
from asynccam.recording.mosaic.timecode import DayTimeCode, day_time, draw, running_time_pictures, text_size

FPS = Fraction(30)


def test_running_time_is_that_of_the_frame() -> None:
    assert list(islice(running_time_pictures("a", FPS, 1), 2)) == [
        draw("a 00:00:00.000", 1),
        draw("a 00:00:00.033", 1),
    ]


def test_first_pictures_have_no_time_and_all_one_size() -> None:
    now = 1_700_000_000.0
    feed = DayTimeCode("cam", FPS, 2, lambda: now)
    length = len("cam 00:00:00.000")
    width, height = text_size(length, 2)
    shown = list(islice(feed, 30))
    assert {len(one) for one in shown} == {width * height}
    assert shown[0] == draw("cam --:--:--.---", 2)
    assert shown[-1] != shown[0]


def test_each_picture_has_its_own_moment_once_the_pace_is_known() -> None:
    began, lead = 1_700_000_000.0, 5.0
    frame = 0
    feed = DayTimeCode("", FPS, 4, lambda: began + (frame - lead) / 30)
    seen: list[bytes] = []
    for _ in range(60):
        seen.append(next(feed))
        frame += 1
    texts = {draw(day_time(began + offset / 1000), 4): offset for offset in range(1900, 2100)}
    assert seen[59] in texts  # 59/30 s after the beginning, within a frame or two
    assert abs(texts[seen[59]] - 59_000 / 30) < 70


def test_busy_loop_does_not_make_it_late_for_good() -> None:
    frame, delay = 0, 0.0
    feed = DayTimeCode("", FPS, 4, lambda: 1_700_000_000.0 + frame / 30 + delay)
    on_time = DayTimeCode("", FPS, 4, lambda: 1_700_000_000.0 + frame / 30)
    for frame in range(40):
        delay = 0.5 if frame > 20 else 0.0
        late, right = next(feed), next(on_time)
    assert late == right


def test_time_of_day_is_this_computers() -> None:
    now = time.time()
    shown = datetime.strptime(day_time(now), "%H:%M:%S.%f")
    assert (shown.hour, shown.minute, shown.second) == time.localtime(now)[3:6]
    assert len(day_time(now)) == timecode.CODE_LENGTH
