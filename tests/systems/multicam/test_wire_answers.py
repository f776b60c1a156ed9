import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynccam.errors import RemoteProtocolError
from asynccam.systems.multicam.models import StatusResponse, StopRecordingResponse
from asynccam.systems.multicam.protocol import ResponseReader, parse_list
from tests.support.counted_patterns import ScannedBytes
from tests.support.cuts import every_cut

STATUS = b'{"deviceId":"d","status":"ready","timestamp":1729000000.5,"isRecording":false}'
BEAT = b'{"command":"HEARTBEAT","timestamp":1729000000.1,"deviceId":"d","fileId":null}'
UMLAUT = '{"deviceId":"Küche ☃ 🎥","status":"error","timestamp":1,"message":"}{\\""}'.encode()


def read(pieces: list[bytes]) -> bytes | str:
    """The reply, or how reading ended."""
    reader = ResponseReader(peer="camera 7")
    try:
        for piece in pieces:
            if (answer := reader.feed(piece)) is not None:
                return answer
    except RemoteProtocolError as error:
        return "fault" if "camera 7" in str(error) else "fault of nobody"
    return "no answer"


@pytest.mark.parametrize(
    ("stream", "answer"),
    [
        (STATUS, STATUS),
        (UMLAUT, UMLAUT),
        (b" \r\n" + STATUS + b"\0", STATUS),
        (STATUS + b"\r\n\0\0\0", STATUS),
        (STATUS + b"garbage after the answer", STATUS),
        (STATUS + BEAT, STATUS),
        (BEAT + STATUS, STATUS),
        (BEAT + b"\0" + STATUS, STATUS),
        (BEAT + b"\r\n" + BEAT + b"\0\0\0\0\0\0" + STATUS + b"\0", STATUS),
        (b"\x00\x00\x00\x4e" + STATUS, STATUS),
        (b"\x00\x00\x00\x4d" + BEAT + b"\x00\x00\x00\x4e" + STATUS, STATUS),
        (b'{"status":"ready","command":"HEARTBEAT"}', b'{"status":"ready","command":"HEARTBEAT"}'),
        (b'{"status":"\\"command\\""}', b'{"status":"\\"command\\""}'),
    ],
)
def test_response_reader_any_cuts(stream: bytes, answer: bytes) -> None:
    for pieces in every_cut(stream):
        assert read(pieces) == answer


def test_lengths_in_this_file() -> None:
    assert (len(STATUS), len(BEAT)) == (0x4E, 0x4D)


@pytest.mark.parametrize(
    "stream",
    [
        b"HTTP/1.1 400 Bad Request\r\n",
        b"null",
        b'["ready"]',
        b"\xff\xff\xff\xff" + STATUS,
        b"\x7f\xff\xff\xff" + STATUS,
        b"\x00\x00\x00\x00" + STATUS,
        b'{"a":' + b"[" * 300,
    ],
)
def test_response_reader_invalid_reply_any_cuts(stream: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        ResponseReader().feed(stream)
    for pieces in every_cut(stream):
        assert read(pieces) == "fault"


@pytest.mark.parametrize("stream", [STATUS[:-1], b"\x00\x00\x00\x4f" + STATUS, b"\x00\x00"])
def test_response_reader_incomplete_reply(stream: bytes) -> None:
    for pieces in every_cut(stream):
        assert read(pieces) == "no answer"


@pytest.mark.parametrize("stream", [b"", b"\r\n", BEAT, BEAT + b"\0\0"])
def test_response_reader_without_reply(stream: bytes) -> None:
    assert read([stream]) == "no answer"


def test_response_reader_raises_again_after_fault() -> None:
    reader = ResponseReader()
    for _ in range(2):
        with pytest.raises(RemoteProtocolError):
            reader.feed(BEAT + b"nonsense")


def test_response_reader_size_limit() -> None:
    assert ResponseReader(max_size=len(STATUS)).feed(STATUS) == STATUS
    with pytest.raises(RemoteProtocolError, match="limit is 77"):
        ResponseReader(max_size=len(STATUS) - 1).feed(STATUS)


def test_response_reader_scans_ten_megabytes_once(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = (
        b'{"fileId":"dev_%d","fileName":"video_%d.mp4","fileSize":12345678,'
        b'"creationDate":1729000000.5,"modificationDate":1729000000.5}'
    )
    files = b",".join(entry % (number, number) for number in range(80_000))
    listing = b'{"deviceId":"d","status":"ready","timestamp":1,"files":[' + files + b"]}"
    assert len(listing) > 10_000_000
    scanned = ScannedBytes(monkeypatch)
    reader = ResponseReader()
    answers = [reader.feed(listing[place : place + 65536]) for place in range(0, len(listing), 65536)]
    assert set(answers[:-1]) == {None}
    assert answers[-1] == listing
    assert 0 < scanned.matched <= len(listing)
    assert len(parse_list(listing).files) == 80_000


def test_reply_parsers() -> None:
    assert StatusResponse.from_json(STATUS).deviceId == "d"
    stop = StopRecordingResponse.from_json(
        b'{"deviceId":"d","status":"ready","timestamp":1,"fileName":"v","fileSize":5}'
    )
    assert (stop.fileName, stop.fileSize) == ("v", 5)
    listing = parse_list(b'{"deviceId":"d","status":"ready","timestamp":1,"files":[]}')
    assert listing.files == []


def test_parse_list_without_files() -> None:
    refused = parse_list('{"deviceId":"d","status":"error","timestamp":1,"message":"Unknown command"}')
    assert (refused.status, refused.message, refused.files) == ("error", "Unknown command", [])
    with pytest.raises(RemoteProtocolError, match="camera 7 answered 'ready' without a list"):
        parse_list(STATUS, peer="camera 7")


@pytest.mark.parametrize("document", [b"[]", b"{}", b"\xff", b'{"deviceId":1,"status":"","timestamp":1}'])
def test_reply_parsers_wrong_shape(document: bytes) -> None:
    for parse in (StatusResponse.from_json, StopRecordingResponse.from_json, parse_list):
        with pytest.raises(RemoteProtocolError, match="camera 7"):
            parse(document, peer="camera 7")


pieces_of_streams = st.sampled_from([STATUS, BEAT, b"\0", b"\x00\x00\x00\x4e", b" ", b"{", b"}", b'"', b"\\"])


@given(st.binary(max_size=60) | st.lists(pieces_of_streams | st.binary(max_size=2), max_size=6).map(b"".join))
def test_response_reader_any_bytes_any_cuts(stream: bytes) -> None:
    assert read([stream[place : place + 1] for place in range(len(stream))]) == read([stream])
