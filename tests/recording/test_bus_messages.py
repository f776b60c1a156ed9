"""The parser of what gst-launch-1.0 prints, on output recorded from version 1.22."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynccam.recording.bus_messages import (
    AsyncDone,
    BusMessage,
    EndOfStream,
    FrameCount,
    FramesDropped,
    FrameSeen,
    InterruptSeen,
    LatencyChanged,
    LaunchReader,
    OtherLine,
    PipelineError,
    SegmentClosed,
    SegmentOpened,
    StateChanged,
    parse_line,
)
from tests.support.cuts import every_cut

DATA = Path(__file__).parent / "data"


def recorded(name: str) -> bytes:
    return (DATA / f"{name}.txt").read_bytes()


def read(*pieces: bytes) -> list[BusMessage]:
    reader = LaunchReader()
    return [message for piece in (*pieces, b"\n") for message in reader.feed(piece)]


def telling(messages: list[BusMessage]) -> list[BusMessage]:
    return [one for one in messages if not isinstance(one, (OtherLine, StateChanged, LatencyChanged))]


def test_split_recording_reports_segments_by_their_names() -> None:
    messages = telling(read(recorded("split-verbose")))
    assert messages == [
        SegmentOpened("split", 0.006333572),
        AsyncDone("pipeline0"),
        SegmentClosed("split", 'rec1/cäm "1" %02d-00.mkv', 1.006333572),
        SegmentOpened("split", 1.006333572),
        SegmentClosed("split", 'rec1/cäm "1" %02d-01.mkv', 1.506333572),
        EndOfStream("pipeline0"),
    ]


def test_states_are_parsed() -> None:
    assert StateChanged("split", "paused") in read(recorded("split-verbose"))


def test_hls_counts_frames_and_names_no_segments() -> None:
    messages = telling(read(recorded("hls")))
    assert [one.frames for one in messages if isinstance(one, FrameCount)] == [3, 13, 23]
    assert [one.location for one in messages if isinstance(one, SegmentClosed)] == [None] * 3


def test_interrupt_without_a_stream_precedes_the_sink() -> None:
    messages = telling(read(recorded("no-stream-interrupted")))
    assert messages == [InterruptSeen("pipeline0"), AsyncDone("pipeline0"), EndOfStream("pipeline0")]


def test_full_disk_is_reported_by_the_sink() -> None:
    failures = [one for one in read(recorded("disk-full-errors")) if isinstance(one, PipelineError)]
    assert failures[0] == PipelineError("filesink0", "No space left on the resource.")
    on_the_bus = [one for one in read(recorded("disk-full")) if isinstance(one, PipelineError)]
    assert on_the_bus[0].element == "filesink0"


def test_lost_frames_are_parsed() -> None:
    dropped = [one for one in read(recorded("quality-of-service")) if isinstance(one, FramesDropped)]
    assert dropped[-1] == FramesDropped("sink", 38)


@pytest.mark.parametrize("name", ["no-stream-interrupted", "disk-full-errors", "quality-of-service"])
def test_messages_do_not_depend_on_cuts(name: str) -> None:
    data = recorded(name)
    whole = read(data)
    assert len(whole) > 10
    assert all(read(*pieces) == whole for pieces in every_cut(data))


def test_long_output_does_not_depend_on_piece_size() -> None:
    data = recorded("split-verbose")
    whole = read(data)
    for size in range(1, 400, 7):
        assert read(*(data[at : at + size] for at in range(0, len(data), size))) == whole


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("ERROR: from element /GstPipeline:p/GstV4l2Src:v0: Gone.", PipelineError("v0", "Gone.")),
        ("ERROR: pipeline doesn't want to preroll.", PipelineError("", "pipeline doesn't want to preroll.")),
        ("/GstPipeline:p/GstIdentity:i0: last-message = chain   ******* (i0:sink)", FrameSeen("i0")),
        ("Redistribute latency...", OtherLine("", "Redistribute latency...")),
        ("", OtherLine("", "")),
    ],
)
def test_lines_outside_the_bus(line: str, message: BusMessage) -> None:
    assert parse_line(line) == message


CLOSED = "splitmuxsink-fragment-closed, location=(string)a, running-time=(guint64)"


@pytest.mark.parametrize(
    "line",
    [
        'Got message #1 from element "split" (element): splitmuxsink-fragment-opened;',
        'Got message #1 from element "c" (element): progress, current=(gint64)many;',
        'Got message #1 from element "c" (state-changed): GstMessageStateChanged, previous=(GstState)null;',
        'Got message #1 from element "c" (from-the-future): whatever;',
        'Got message #one from element "c" (eos): no message details',
        'Got message #1 from element "c',
        f'Got message #1 from element "c" (element): progress, current=(gint64){"9" * 5000};',
        f'Got message #1 from element "c" (qos): GstMessageQOS, dropped=(guint64){"9" * 400};',
        f'Got message #1 from element "c" (element): {CLOSED}{"9" * 400};',
    ],
)
def test_parse_line_unknown_wording_is_other_line(line: str) -> None:
    assert isinstance(parse_line(line), OtherLine)


def test_feed_cuts_line_without_end() -> None:
    reader = LaunchReader()
    for _ in range(100):
        assert reader.feed(b"x" * 10_000) == []
    (line,) = reader.feed(b'\nGot message #1 from element "p" (eos): no message details')
    assert isinstance(line, OtherLine)
    assert len(line.text) == 64 * 1024
    assert reader.feed(b"\n") == [EndOfStream("p")]


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_any_bytes_are_lines_however_cut(first: bytes, second: bytes) -> None:
    assert read(first, second) == read(first + second)
