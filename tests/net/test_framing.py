import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynccam.errors import RemoteProtocolError
from asynccam.net.framing import Frame, FrameReader, encode_frame
from tests.support.cuts import every_cut

MAX = 1024 * 1024
LONG = b'{"b":"' + b"x" * 248 + b'"}'


def read(pieces: list[bytes], *, max_size: int = MAX) -> tuple[list[Frame], str]:
    """The messages, and the fault that ended the stream or whether a part of a message was left over."""
    reader = FrameReader(max_size=max_size, peer="camera 7")
    frames = []
    try:
        for piece in pieces:
            reader.feed(piece)
            while (frame := reader.next_frame()) is not None:
                frames.append(frame)
    except RemoteProtocolError as error:
        return frames, "fault" if "camera 7" in str(error) else "fault that names nobody"
    return frames, "incomplete" if reader.take_remaining().strip(b" \t\r\n\0") else "end"


def bare(document: bytes) -> Frame:
    return Frame(document, prefixed=False)


def prefixed(document: bytes) -> Frame:
    return Frame(document, prefixed=True)


@pytest.mark.parametrize(
    ("stream", "frames"),
    [
        (b"", []),
        (b'{"a":1}', [bare(b'{"a":1}')]),
        (b'{"a":1}{"b":2}', [bare(b'{"a":1}'), bare(b'{"b":2}')]),
        (b' \r\n\t{"a":1}\0\r\n \0{"b":2}\0\0\0\0\0\0', [bare(b'{"a":1}'), bare(b'{"b":2}')]),
        (b'\x00\x00\x00\x07{"a":1}', [prefixed(b'{"a":1}')]),
        (b"\x00\x00\x00\x05hello", [prefixed(b"hello")]),
        (b'\x00\x00\x00\x02{}\x00\x00\x00\x07{"a":1}', [prefixed(b"{}"), prefixed(b'{"a":1}')]),
        (b'{"a":1}\x00\x00\x00\x02{}', [bare(b'{"a":1}'), prefixed(b"{}")]),
        (b'{"a":1}\0\0\0\0\r\n\0\x00\x00\x00\x02{}\r\n', [bare(b'{"a":1}'), prefixed(b"{}")]),
        (b'{"a":1}\0\x00\x00\x01\x00' + LONG, [bare(b'{"a":1}'), prefixed(LONG)]),
    ],
)
def test_frame_reader_any_cuts(stream: bytes, frames: list[Frame]) -> None:
    for pieces in every_cut(stream):
        assert read(pieces) == (frames, "end")


@pytest.mark.parametrize(
    "stream",
    [
        b"\x00\x00\x00\x00{}",
        b"\x00\x10\x00\x01{}",
        b"\xff\xff\xff\xff{}",
        b"\x80\x00\x00\x00{}",
        b"GET / HTTP/1.1\r\n",
        b"[1, 2]",
        b"null",
        b'\xef\xbb\xbf{"a":1}',
        b'{"a":' + b"[" * 300,
    ],
)
def test_frame_reader_invalid_message_any_cuts(stream: bytes) -> None:
    for pieces in every_cut(stream):
        assert read(pieces) == ([], "fault")


@pytest.mark.parametrize("stream", [b'{"a":1', b"\x00\x00\x00\x09{}", b"\x00\x00\x7b"])
def test_frame_reader_incomplete_message_any_cuts(stream: bytes) -> None:
    for pieces in every_cut(stream):
        assert read(pieces) == ([], "incomplete")


@pytest.mark.parametrize("start", [b"G", b"\xff", b"\x00\x10\x01"])
def test_frame_reader_refuses_an_incomplete_large_length(start: bytes) -> None:
    reader = FrameReader(max_size=MAX)
    reader.feed(start)
    with pytest.raises(RemoteProtocolError, match="limit is 1048576"):
        reader.next_frame()


def test_frame_reader_size_limit() -> None:
    assert read([b'{"a":1}', b"\x00\x00\x00\x07{'a':1}"], max_size=7)[1] == "end"
    assert read([b'{"ab":1}'], max_size=7) == ([], "fault")
    assert read([b'{"ab":', b"1}"], max_size=7) == ([], "fault")
    assert read([b"\x00\x00\x00\x08"], max_size=7) == ([], "fault")


def test_frame_reader_endless_object() -> None:
    reader = FrameReader(max_size=100)
    reader.feed(b'{"a":"' + b"x" * 94)
    assert reader.next_frame() is None
    reader.feed(b"x")
    with pytest.raises(RemoteProtocolError):
        reader.next_frame()


def test_frame_reader_take_remaining() -> None:
    reader = FrameReader(max_size=MAX)
    reader.feed(b"\x00\x00\x00\x02{}\x00\x01{body")
    assert reader.next_frame() == prefixed(b"{}")
    assert reader.take_remaining() == b"\x00\x01{body"
    assert reader.take_remaining() == b""


def test_encode_frame() -> None:
    assert encode_frame(b'{"a":1}') == b'\x00\x00\x00\x07{"a":1}'
    assert encode_frame(b"x" * 0x010203)[:4] == b"\x00\x01\x02\x03"


@given(
    st.binary(max_size=80)
    | st.lists(st.sampled_from([b"\0", b"{", b"}", b'"', b"\\", b" ", b"\x02", b"a"])).map(b"".join)
)
def test_frame_reader_any_bytes_any_cuts(garbage: bytes) -> None:
    whole = read([garbage], max_size=40)
    assert read([garbage[place : place + 1] for place in range(len(garbage))], max_size=40) == whole
