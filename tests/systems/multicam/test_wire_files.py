import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynccam.errors import RemoteProtocolError
from asynccam.net.framing import encode_frame
from asynccam.systems.multicam.protocol import (
    DeviceRefusal,
    FileChunk,
    FileEnd,
    FileEvent,
    FileHeader,
    FileReader,
)
from tests.support.cuts import every_cut

HEADER = b'{"deviceId":"d","fileName":"../loot.txt","fileSize":5,"status":"ready"}'
FRAMED = b"\x00\x00\x00\x47" + HEADER
BEAT = b'{"command":"HEARTBEAT","timestamp":1729000000.1,"deviceId":"d"}'
ERROR = b'{"deviceId":"d","status":"error","timestamp":1,"message":"Failed to finalize video x"}'


def read(pieces: list[bytes], *, header_only: bool = False) -> tuple[list[FileEvent], str]:
    """The events, neighbouring pieces of the file joined, and how it ended."""
    reader = FileReader(header_only=header_only, peer="camera 7")
    events: list[FileEvent] = []
    try:
        for piece in pieces:
            for event in reader.feed(piece):
                last = events[-1] if events else None
                if isinstance(event, FileChunk) and isinstance(last, FileChunk):
                    events[-1] = FileChunk(last.data + event.data)
                else:
                    events.append(event)
        reader.eof()
    except RemoteProtocolError as error:
        return events, "fault" if "camera 7" in str(error) else "fault of nobody"
    return events, "done" if reader.done else "no answer"


def names(events: list[FileEvent]) -> list[str]:
    return [type(event).__name__ for event in events]


@pytest.mark.parametrize(
    "stream",
    [
        FRAMED + b"hello",
        FRAMED + b"hello and more",
        b"\r\n" + FRAMED + b"hello",
        BEAT + FRAMED + b"hello",
        BEAT + b"\0" + FRAMED + b"hello",
        BEAT + b"\r\n" + BEAT + b"\0\0\0\0\0" + FRAMED + b"hello\0",
    ],
)
def test_a_file_is_read_wherever_the_bytes_are_cut(stream: bytes) -> None:
    for pieces in every_cut(stream):
        events, end = read(pieces)
        assert names(events) == ["FileHeader", "FileChunk", "FileEnd"]
        assert isinstance(events[0], FileHeader)
        assert (events[0].header.fileName, events[0].header.fileSize) == ("../loot.txt", 5)
        assert events[1:] == [FileChunk(b"hello"), FileEnd()]
        assert end == "done"


def test_the_length_in_these_tests_is_right() -> None:
    assert len(HEADER) == 0x47


def test_a_header_of_dialect_1() -> None:
    header = b'{"deviceId":"d","fileId":"d_1","fileName":"d_1.mov","fileSize":0,"status":"ready"}'
    events, end = read([b"\x00\x00\x00\x52" + header])
    assert isinstance(events[0], FileHeader)
    assert (events[0].header.fileId, events[0].header.fileName) == ("d_1", "d_1.mov")
    assert (events[1:], end) == ([FileEnd()], "done")


@pytest.mark.parametrize(
    ("stream", "status", "message"),
    [
        (ERROR, "error", "Failed to finalize video x"),
        (ERROR + b"\0\r\n", "error", "Failed to finalize video x"),
        (BEAT + ERROR, "error", "Failed to finalize video x"),
        (b'{"deviceId":"d","status":"File not found","timestamp":1}', "file_not_found", None),
        (b'{"deviceId":"d","status":"error","timestamp":1,"isRecording":false,"fileSize":5}', "error", None),
        (b"\x00\x00\x00\x12" + b'{"status":"error"}', "error", None),
        (b"\x00\x00\x00\x22" + b'{"status":"error","fileSize":null}', "error", None),
        (b"\x00\x00\x00\x1f" + b'{"status":"error","fileSize":0}', "error", None),
        (b"\x00\x00\x00\x12" + b'{"status":"busy!"}', "busy!", None),
    ],
)
def test_an_error_in_place_of_the_file_is_a_refusal(stream: bytes, status: str, message: str | None) -> None:
    for pieces in every_cut(stream):
        events, end = read(pieces)
        (refusal,) = events
        assert isinstance(refusal, DeviceRefusal)
        assert (refusal.error.status, refusal.error.message) == (status, message)
        assert end == "done"


@pytest.mark.parametrize(
    "stream",
    [
        b"\xff\xff\xff\xff" + HEADER,
        b"\x80\x00\x00\x00" + HEADER,
        b"\x00\x10\x00\x01" + HEADER,
        b"\x00\x00\x00\x00" + HEADER,
        b"\x00\x00\x00\x02[]",
        b"\x00\x00\x00\x02{}",
        b"\x00\x00\x00\x03{}}",
        b"\x00\x00\x00\x0d" + b'{"fileSize":-',
        b"\x00\x00\x00\x0f" + b'{"status":"\xff\xfe"}',
        b"{}",
        b'{"fileSize":5}',
        b'{"status":7}',
        b"ERROR no such file\r\n",
    ],
)
def test_invalid_file_reply_is_an_error_wherever_it_is_cut(stream: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        FileReader().feed(stream)
    for pieces in every_cut(stream):
        assert read(pieces) == ([], "fault")


@pytest.mark.parametrize("stream", [FRAMED[:-1], ERROR[:-1], b"\x00\x00"])
def test_a_header_or_refusal_that_ends_early_is_a_fault(stream: bytes) -> None:
    assert FileReader().feed(stream) == []
    for pieces in every_cut(stream):
        assert read(pieces) == ([], "fault")


@pytest.mark.parametrize("body", [b"", b"h", b"hell"])
def test_a_file_that_ends_early_is_a_fault_after_its_bytes(body: bytes) -> None:
    for pieces in every_cut(FRAMED + body):
        events, end = read(pieces)
        assert events[1:] == ([FileChunk(body)] if body else [])
        assert end == "fault"


def test_the_caller_may_take_over_after_the_header() -> None:
    for size in range(8):
        reader = FileReader(header_only=True)
        (event,) = reader.feed(FRAMED + b"hello, w"[:size])
        assert isinstance(event, FileHeader)
        assert reader.done
        assert reader.leftover == b"hello"[:size]
        reader.eof()


def test_a_cut_inside_the_header_leaves_the_same_to_the_caller() -> None:
    for place in range(1, len(FRAMED)):
        reader = FileReader(header_only=True)
        assert reader.feed(FRAMED[:place]) == []
        assert not reader.done
        assert names(reader.feed(FRAMED[place:] + b"he")) == ["FileHeader"]
        assert reader.leftover == b"he"


def test_the_largest_header_is_a_mebibyte() -> None:
    def header_of(size: int) -> bytes:
        text = b'{"fileSize":0,"note":"' + b"x" * (size - 24) + b'"}'
        return len(text).to_bytes(4, "big") + text

    assert names(read([header_of(1024 * 1024)])[0]) == ["FileHeader", "FileEnd"]
    assert read([header_of(1024 * 1024 + 1)]) == ([], "fault")


def test_nothing_counts_after_the_end() -> None:
    reader = FileReader()
    reader.feed(FRAMED + b"hello")
    assert reader.feed(b"\xff\xff\xff\xff") == []
    reader.eof()


def test_received_counts_what_went_out() -> None:
    reader = FileReader()
    reader.feed(FRAMED + b"hel")
    assert reader.received == 3
    reader.feed(b"lo and more")
    assert reader.received == 5


LENGTH = b"\x00\x00\x00\x0e"
pieces_of_streams = st.sampled_from([FRAMED, BEAT, ERROR, b"\0", b"hello", LENGTH, b'{"status":"x"}'])


@given(st.binary(max_size=60) | st.lists(pieces_of_streams | st.binary(max_size=2), max_size=6).map(b"".join))
def test_any_bytes_give_the_same_however_they_are_cut(stream: bytes) -> None:
    assert read([stream[place : place + 1] for place in range(len(stream))]) == read([stream])


@pytest.mark.parametrize("written", [b'"5"', b"5.0", b'"5.0"'])
def test_a_size_may_be_text_or_a_float(written: bytes) -> None:
    header = b'{"fileName":"a","fileSize":%b}' % written
    for pieces in every_cut(encode_frame(header) + b"12345tail"):
        events, end = read(pieces)
        assert (b"".join(one.data for one in events if isinstance(one, FileChunk)), end) == (b"12345", "done")


@pytest.mark.parametrize("written", [b"-1", b"NaN", b"1e400", b'"many"', b"99999999999999999999", b"true"])
def test_a_file_of_unknown_size_lasts_to_the_end(written: bytes) -> None:
    reader = FileReader()
    events = reader.feed(encode_frame(b'{"fileName":"a","fileSize":%b}' % written) + b"123")
    events += reader.feed(b"45")
    assert not reader.done
    reader.eof()
    assert reader.done
    assert isinstance(events[0], FileHeader)
    assert events[0].header.fileSize is None
    assert events[1:] == [FileChunk(b"123"), FileChunk(b"45")]


@pytest.mark.parametrize("written", [b"0", b'"0"', b"0.0", b'"x"'])
def test_a_header_without_a_size_leaves_all_that_came_behind_it(written: bytes) -> None:
    reader = FileReader(header_only=True)
    reader.feed(encode_frame(b'{"fileName":"a","fileSize":%b,"status":"ready"}' % written) + b"12345")
    assert (reader.done, reader.leftover) == (True, b"12345")
    refusal = FileReader().feed(encode_frame(b'{"fileSize":%b,"status":"error"}' % written))
    assert isinstance(refusal[0], DeviceRefusal)
