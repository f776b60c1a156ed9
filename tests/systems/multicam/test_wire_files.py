import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynccam.errors import RemoteProtocolError
from asynccam.net.framing import encode_frame
from asynccam.systems.multicam.models import ErrorResponse, FileResponse
from asynccam.systems.multicam.protocol import FileReader
from tests.support.cuts import every_cut

HEADER = b'{"deviceId":"d","fileName":"../loot.txt","fileSize":5,"status":"ready"}'
FRAMED = b"\x00\x00\x00\x47" + HEADER
BEAT = b'{"command":"HEARTBEAT","timestamp":1729000000.1,"deviceId":"d"}'
ERROR = b'{"deviceId":"d","status":"error","timestamp":1,"message":"Failed to finalize video x"}'


def read(pieces: list[bytes]) -> tuple[FileResponse | ErrorResponse | str, bytes]:
    """The header, the refusal or how reading ended; and what of the file was received with the header."""
    reader = FileReader(peer="camera 7")
    for index, piece in enumerate(pieces, 1):
        try:
            reply = reader.feed(piece)
        except RemoteProtocolError as error:
            return "fault" if "camera 7" in str(error) else "fault of nobody", b""
        if reply is not None:
            return reply, reader.leftover + b"".join(pieces[index:])
    return "no answer", b""


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
def test_file_reader_any_cuts(stream: bytes) -> None:
    for pieces in every_cut(stream):
        header, body = read(pieces)
        assert isinstance(header, FileResponse)
        assert (header.fileName, header.fileSize) == ("../loot.txt", 5)
        assert body[:5] == b"hello"


def test_length_in_this_file() -> None:
    assert len(HEADER) == 0x47


def test_file_reader_header_of_dialect_1() -> None:
    header = b'{"deviceId":"d","fileId":"d_1","fileName":"d_1.mov","fileSize":0,"status":"ready"}'
    reply, body = read([b"\x00\x00\x00\x52" + header])
    assert isinstance(reply, FileResponse)
    assert (reply.fileId, reply.fileName, body) == ("d_1", "d_1.mov", b"")


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
def test_file_reader_refusal(stream: bytes, status: str, message: str | None) -> None:
    for pieces in every_cut(stream):
        refusal, _ = read(pieces)
        assert isinstance(refusal, ErrorResponse)
        assert (refusal.status, refusal.message) == (status, message)


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
def test_file_reader_invalid_reply_any_cuts(stream: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        FileReader().feed(stream)
    for pieces in every_cut(stream):
        assert read(pieces) == ("fault", b"")


@pytest.mark.parametrize("stream", [FRAMED[:-1], ERROR[:-1], b"\x00\x00"])
def test_file_reader_incomplete_header_or_refusal(stream: bytes) -> None:
    for pieces in every_cut(stream):
        assert read(pieces) == ("no answer", b"")


def test_file_reader_leftover_is_at_most_the_file() -> None:
    for size in range(8):
        reader = FileReader()
        assert isinstance(reader.feed(FRAMED + b"hello, w"[:size]), FileResponse)
        assert reader.leftover == b"hello"[:size]


def test_file_reader_leftover_after_a_cut_header() -> None:
    for place in range(1, len(FRAMED)):
        reader = FileReader()
        assert reader.feed(FRAMED[:place]) is None
        assert isinstance(reader.feed(FRAMED[place:] + b"he"), FileResponse)
        assert reader.leftover == b"he"


def test_file_reader_largest_header_is_a_mebibyte() -> None:
    def header_of(size: int) -> bytes:
        text = b'{"fileSize":0,"note":"' + b"x" * (size - 24) + b'"}'
        return len(text).to_bytes(4, "big") + text

    assert isinstance(read([header_of(1024 * 1024)])[0], FileResponse)
    assert read([header_of(1024 * 1024 + 1)]) == ("fault", b"")


LENGTH = b"\x00\x00\x00\x0e"
pieces_of_streams = st.sampled_from([FRAMED, BEAT, ERROR, b"\0", b"hello", LENGTH, b'{"status":"x"}'])


@given(st.binary(max_size=60) | st.lists(pieces_of_streams | st.binary(max_size=2), max_size=6).map(b"".join))
def test_file_reader_any_bytes_any_cuts(stream: bytes) -> None:
    single, body = read([stream[place : place + 1] for place in range(len(stream))])
    whole, whole_body = read([stream])
    assert single == whole
    assert body.startswith(whole_body)  # not more than the announced size


@pytest.mark.parametrize("written", [b'"5"', b"5.0", b'"5.0"'])
def test_file_reader_size_as_text_or_float(written: bytes) -> None:
    header = b'{"fileName":"a","fileSize":%b}' % written
    for pieces in every_cut(encode_frame(header) + b"12345tail"):
        reply, body = read(pieces)
        assert isinstance(reply, FileResponse)
        assert (reply.fileSize, body[:5]) == (5, b"12345")


@pytest.mark.parametrize("written", [b"-1", b"NaN", b"1e400", b'"many"', b"99999999999999999999", b"true"])
def test_file_reader_invalid_size_is_unknown(written: bytes) -> None:
    reader = FileReader()
    header = reader.feed(encode_frame(b'{"fileName":"a","fileSize":%b}' % written) + b"123")
    assert isinstance(header, FileResponse)
    assert (header.fileSize, reader.leftover) == (None, b"123")


@pytest.mark.parametrize("written", [b"0", b'"0"', b"0.0", b'"x"'])
def test_file_reader_leftover_without_a_size(written: bytes) -> None:
    reader = FileReader()
    reader.feed(encode_frame(b'{"fileName":"a","fileSize":%b,"status":"ready"}' % written) + b"12345")
    assert reader.leftover == b"12345"
    refusal = FileReader().feed(encode_frame(b'{"fileSize":%b,"status":"error"}' % written))
    assert isinstance(refusal, ErrorResponse)
