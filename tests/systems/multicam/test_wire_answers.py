import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynccam.errors import RemoteProtocolError
from asynccam.systems.multicam.models import StatusResponse, StopRecordingResponse
from asynccam.systems.multicam.protocol import (
    ReplyDocument,
    ResponseReader,
    parse_list,
)
from tests.support.counted_patterns import ScannedBytes
from tests.support.cuts import every_cut

STATUS = b'{"deviceId":"d","status":"ready","timestamp":1729000000.5,"isRecording":false}'
BEAT = b'{"command":"HEARTBEAT","timestamp":1729000000.1,"deviceId":"d","fileId":null}'
UMLAUT = '{"deviceId":"Küche ☃ 🎥","status":"error","timestamp":1,"message":"}{\\""}'.encode()


def read(pieces: list[bytes]) -> tuple[list[ReplyDocument], int, str]:
    reader = ResponseReader(peer="camera 7")
    answers: list[ReplyDocument] = []
    try:
        for piece in pieces:
            answers += reader.feed(piece)
        reader.eof()
    except RemoteProtocolError as error:
        return answers, reader.heartbeats, "fault" if "camera 7" in str(error) else "fault of nobody"
    return answers, reader.heartbeats, "done" if reader.done else "no answer"


@pytest.mark.parametrize(
    ("stream", "answer", "heartbeats"),
    [
        (STATUS, STATUS, 0),
        (UMLAUT, UMLAUT, 0),
        (b" \r\n" + STATUS + b"\0", STATUS, 0),
        (STATUS + b"\r\n\0\0\0", STATUS, 0),
        (STATUS + b"garbage after the answer", STATUS, 0),
        (STATUS + BEAT, STATUS, 0),
        (BEAT + STATUS, STATUS, 1),
        (BEAT + b"\0" + STATUS, STATUS, 1),
        (BEAT + b"\r\n" + BEAT + b"\0\0\0\0\0\0" + STATUS + b"\0", STATUS, 2),
        (b"\x00\x00\x00\x4e" + STATUS, STATUS, 0),
        (b"\x00\x00\x00\x4d" + BEAT + b"\x00\x00\x00\x4e" + STATUS, STATUS, 1),
        (b'{"status":"ready","command":"HEARTBEAT"}', b'{"status":"ready","command":"HEARTBEAT"}', 0),
        (b'{"status":"\\"command\\""}', b'{"status":"\\"command\\""}', 0),
    ],
)
def test_an_answer_is_found_wherever_the_bytes_are_cut(stream: bytes, answer: bytes, heartbeats: int) -> None:
    for pieces in every_cut(stream):
        assert read(pieces) == ([ReplyDocument(answer)], heartbeats, "done")


def test_the_lengths_in_these_tests_are_right() -> None:
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
def test_what_is_no_answer_is_a_fault_wherever_it_is_cut(stream: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        ResponseReader().feed(stream)
    for pieces in every_cut(stream):
        assert read(pieces) == ([], 0, "fault")


@pytest.mark.parametrize("stream", [STATUS[:-1], b"\x00\x00\x00\x4f" + STATUS, b"\x00\x00"])
def test_an_answer_that_ends_early_is_a_fault(stream: bytes) -> None:
    assert ResponseReader().feed(stream) == []
    for pieces in every_cut(stream):
        assert read(pieces) == ([], 0, "fault")


@pytest.mark.parametrize("stream", [b"", b"\r\n", BEAT, BEAT + b"\0\0"])
def test_a_connection_closed_without_an_answer_is_told_by_done(stream: bytes) -> None:
    assert read([stream])[2] == "no answer"


def test_a_fault_after_a_heartbeat_is_raised_again_and_again() -> None:
    reader = ResponseReader()
    for _ in range(2):
        with pytest.raises(RemoteProtocolError):
            reader.feed(BEAT + b"nonsense")
    with pytest.raises(RemoteProtocolError):
        reader.eof()


def test_an_answer_may_be_as_long_as_the_limit_and_no_longer() -> None:
    assert ResponseReader(max_size=len(STATUS)).feed(STATUS) == [ReplyDocument(STATUS)]
    with pytest.raises(RemoteProtocolError, match="limit is 77"):
        ResponseReader(max_size=len(STATUS) - 1).feed(STATUS)


def test_a_list_of_ten_megabytes_is_scanned_once(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = (
        b'{"fileId":"dev_%d","fileName":"video_%d.mp4","fileSize":12345678,'
        b'"creationDate":1729000000.5,"modificationDate":1729000000.5}'
    )
    files = b",".join(entry % (number, number) for number in range(80_000))
    listing = b'{"deviceId":"d","status":"ready","timestamp":1,"files":[' + files + b"]}"
    assert len(listing) > 10_000_000
    scanned = ScannedBytes(monkeypatch)
    reader = ResponseReader()
    answers: list[ReplyDocument] = []
    for place in range(0, len(listing), 65536):
        answers += reader.feed(listing[place : place + 65536])
    assert answers == [ReplyDocument(listing)]
    assert 0 < scanned.matched <= len(listing)
    assert len(parse_list(answers[0].document).files) == 80_000


def test_answers_are_parsed_by_what_was_asked() -> None:
    assert StatusResponse.from_json(STATUS).deviceId == "d"
    stop = StopRecordingResponse.from_json(
        b'{"deviceId":"d","status":"ready","timestamp":1,"fileName":"v","fileSize":5}'
    )
    assert (stop.fileName, stop.fileSize) == ("v", 5)
    listing = parse_list(b'{"deviceId":"d","status":"ready","timestamp":1,"files":[]}')
    assert listing.files == []


def test_a_list_may_be_missing_only_from_an_error() -> None:
    refused = parse_list('{"deviceId":"d","status":"error","timestamp":1,"message":"Unknown command"}')
    assert (refused.status, refused.message, refused.files) == ("error", "Unknown command", [])
    with pytest.raises(RemoteProtocolError, match="camera 7 answered 'ready' without a list"):
        parse_list(STATUS, peer="camera 7")


@pytest.mark.parametrize("document", [b"[]", b"{}", b"\xff", b'{"deviceId":1,"status":"","timestamp":1}'])
def test_documents_of_wrong_shape_are_refused(document: bytes) -> None:
    for parse in (StatusResponse.from_json, StopRecordingResponse.from_json, parse_list):
        with pytest.raises(RemoteProtocolError, match="camera 7"):
            parse(document, peer="camera 7")


pieces_of_streams = st.sampled_from([STATUS, BEAT, b"\0", b"\x00\x00\x00\x4e", b" ", b"{", b"}", b'"', b"\\"])


@given(st.binary(max_size=60) | st.lists(pieces_of_streams | st.binary(max_size=2), max_size=6).map(b"".join))
def test_any_bytes_give_the_same_however_they_are_cut(stream: bytes) -> None:
    assert read([stream[place : place + 1] for place in range(len(stream))]) == read([stream])
