"""Requests and framed answers against bytes written by hand, cut at every place."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynccam.errors import RemoteProtocolError, UsageError
from asynccam.net.framing import encode_frame
from asynccam.systems.nanocam.protocol import (
    MAX_REQUEST,
    ORIGINAL_REQUEST,
    BadRequest,
    Busy,
    ExtensionOptions,
    FileEntry,
    FileListing,
    Finished,
    FramedResponse,
    Goodbye,
    ImageRequest,
    KillRequest,
    Ok,
    Probe,
    Refused,
    Request,
    RequestEvent,
    RequestReader,
    ResetTimerRequest,
    VideoRequest,
    encode_framed,
    encode_request,
    local_name,
)
from asynccam.systems.nanocam.reply_parser import FileBegins, FileBytes, FileEnds, ReplyEvent, ReplyReader
from tests.support.cuts import every_cut

IMAGE = (
    b'{"type": "image", "width": 3280, "height": 2464, "frames": 3, "interval": 5, "format": "file"}',
    ImageRequest(3, 5, 3280, 2464),
)
VIDEO = (
    b'{"type": "video", "width": 1920, "height": 1080, "duration": 10, "format": "file"}',
    VideoRequest(10, 1920, 1080, "file"),
)
UDP = (
    b'{"type": "video", "width": "1920", "height": 1080.0, "duration": "10.5", "format": "udp"}',
    VideoRequest(10.5, 1920, 1080, "udp"),
)
KILL = (b'{"type": "kill"}', KillRequest())
RESET = (b'{"type": "reset_timer", "duration": "30"}', ResetTimerRequest(30))
OURS = (
    b"""{"type":"image","width":8,"height":8,"frames":1,"interval":1,"format":"file",
    "asynccam":{"v":1,"token":"{\\"}","port":5005,"interval":0.25}}""",
    ImageRequest(1, 0.25, 8, 8, ExtensionOptions('{"}', 5005)),
)
KNOWN = (IMAGE, VIDEO, UDP, KILL, RESET, OURS, (b"GOODBYE", Goodbye()), (b"OK", Probe()))


def asked(pieces: list[bytes]) -> list[RequestEvent]:
    reader = RequestReader()
    events = [event for piece in pieces for event in reader.feed(piece)]
    reader.eof()
    return events


@pytest.mark.parametrize(("data", "event"), KNOWN, ids=[type(event).__name__ for _, event in KNOWN])
def test_requests_cut_anywhere(data: bytes, event: RequestEvent) -> None:
    for pieces in every_cut(data):
        assert asked(pieces) == [event]


@pytest.mark.parametrize("between", [b"", b"\n", b" \r\n\0"])
def test_requests_in_one_piece(between: bytes) -> None:
    data = between.join(data for data, _ in KNOWN) + between
    for pieces in every_cut(data):
        assert asked(pieces) == [event for _, event in KNOWN]


def test_request_longer_than_the_original_reads() -> None:
    fields = {**json.loads(IMAGE[0]), "comment": "x" * 5000}
    assert asked([json.dumps(fields).encode()]) == [IMAGE[1]]


def test_request_beyond_the_limit() -> None:
    reader = RequestReader(max_size=1000)
    assert reader.feed(b'{"type": "' + b"x" * 900) == []
    assert reader.incomplete
    with pytest.raises(RemoteProtocolError, match="more than 1000 bytes"):
        reader.feed(b"x" * 200)
    with pytest.raises(RemoteProtocolError, match=f"more than {MAX_REQUEST} bytes"):
        RequestReader().feed(json.dumps({"type": "x" * MAX_REQUEST}).encode())


@pytest.mark.parametrize(
    "data", [b"HELLO", b"GOODBYf", b"[]", b'"a"', b"OH", b"\xff", b"}", b"{]", b'{"a": }', b"{\xff}"]
)
def test_other_data_is_refused(data: bytes) -> None:
    for last in (data[-1:], data):
        reader = RequestReader(peer="somebody")
        with pytest.raises(RemoteProtocolError, match="somebody"):
            reader.feed(data[: len(data) - len(last)] + last)
    reader = RequestReader()
    assert reader.feed(KILL[0] + data) == [KillRequest()], "what came before is not lost"
    with pytest.raises(RemoteProtocolError):
        reader.feed(b"")
    with pytest.raises(RemoteProtocolError):
        reader.eof()


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="deep"):
        RequestReader().feed(b'{"type": ' + b"[" * 5000)


@pytest.mark.parametrize("place", [1, 5, len(IMAGE[0]) - 1])
def test_end_inside_a_request(place: int) -> None:
    reader = RequestReader()
    reader.feed(IMAGE[0][:place])
    with pytest.raises(RemoteProtocolError, match=f"left after {place} bytes"):
        reader.eof()


GOOD: dict[str, Any] = json.loads(IMAGE[0])


@pytest.mark.parametrize(
    "change",
    [
        *({name: None} for name in GOOD),
        *({name: [1]} for name in GOOD),
        *({name: True} for name in GOOD),
        *({name: "many"} for name in GOOD),
        *(
            {name: bad}
            for name in ("width", "height", "frames", "interval")
            for bad in (0, -1, 1e300, "1e999")
        ),
        *({name: 1.5} for name in ("width", "height", "frames")),
        {"width": 65536},
        {"format": "opencv"},
        {"format": "udp"},
        {"type": "shell"},
        {"width": float("nan")},
        {"interval": float("inf")},
        {"asynccam": {"token": 5}},
        {"asynccam": {"token": ""}},
        {"asynccam": {"token": "\ud800"}},
        {"asynccam": {"token": "a\nb"}},
        {"asynccam": {"port": 80}},
        {"asynccam": {"port": "high"}},
        {"asynccam": {"interval": "often"}},
    ],
    ids=repr,
)
def test_invalid_fields_give_a_bad_request(change: dict[str, Any]) -> None:
    fields = {**GOOD, **change}
    (event,) = asked([json.dumps(fields).encode()])
    assert isinstance(event, BadRequest)
    assert event.reason
    for name in change:
        if name != "asynccam":
            (event,) = asked([json.dumps({**fields, "asynccam": {}}).encode()])
            assert isinstance(event, BadRequest)
            assert event.extension == ExtensionOptions(), "whoever can be told is told"


def test_missing_fields_and_the_next_request() -> None:
    for name in GOOD:
        fields = {key: value for key, value in GOOD.items() if key != name}
        found = asked([json.dumps(fields).encode() + KILL[0]])
        assert isinstance(found[0], BadRequest)
        assert found[1:] == [KillRequest()]
    (event,) = asked([b'{"type": "reset_timer"}'])
    assert isinstance(event, BadRequest)


@given(st.binary(max_size=100))
def test_random_requests(data: bytes) -> None:
    reader = RequestReader()
    try:
        reader.feed(data)
        reader.eof()
    except RemoteProtocolError:
        pass


sizes = st.integers(1, 65535)
ours = st.none() | st.builds(
    ExtensionOptions,
    st.none() | st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=40),
    st.none() | st.integers(1024, 65535),
    st.none() | st.integers(0, 999_999_999),
)
whole = st.integers(1, 10**6).map(float)


@given(
    st.one_of(
        st.builds(ImageRequest, st.integers(1, 10**6), whole, sizes, sizes, ours),
        st.builds(VideoRequest, whole, sizes, sizes, st.sampled_from(["file", "udp"]), ours),
        st.builds(KillRequest, ours),
        st.builds(ResetTimerRequest, whole, ours),
        st.builds(ImageRequest, st.integers(1, 9), st.floats(0.01, 99), sizes, sizes, ours.filter(bool)),
        st.builds(ResetTimerRequest, st.floats(0.01, 99), ours.filter(bool)),
    )
)
def test_encoded_requests_are_parsed(request: Request) -> None:
    data = encode_request(request)
    assert len(data) <= ORIGINAL_REQUEST
    assert asked([data]) == [request]
    fields = json.loads(data)
    # What an original server would die of is never written.
    if fields["type"] in ("image", "video"):
        assert isinstance(fields["width"], int)
        assert isinstance(fields["height"], int)
        assert all(
            isinstance(fields[one], int) and fields[one] >= 1
            for one in ("interval", "duration")
            if one in fields
        )
    if fields["type"] == "reset_timer":
        assert int(fields["duration"]) >= 1
        assert isinstance(fields["duration"], str)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ImageRequest(0, 1, 8, 8),
        lambda: ImageRequest(1, 0, 8, 8),
        lambda: ImageRequest(1, float("nan"), 8, 8),
        lambda: ImageRequest(1, 1, 0, 8),
        lambda: VideoRequest(-1, 8, 8),
        lambda: VideoRequest(float("inf"), 8, 8),
        lambda: VideoRequest(1, 8, 70000),
        lambda: ResetTimerRequest(0),
        lambda: ExtensionOptions(""),
        lambda: ExtensionOptions(ssrc=-1),
        lambda: ExtensionOptions(ssrc=1_000_000_000),
        lambda: ExtensionOptions("\ud800"),
        lambda: ExtensionOptions(None, 80),
        lambda: encode_request(ImageRequest(1, 0.5, 8, 8)),
        lambda: encode_request(KillRequest(ExtensionOptions("x" * 1100))),
    ],
)
def test_encode_refuses_what_crashes_an_original(make: Any) -> None:
    with pytest.raises(UsageError):
        make()


def test_token_is_not_in_the_repr() -> None:
    assert "secret" not in repr(KillRequest(ExtensionOptions("secret")))


# -- answers in frames ------------------------------------------------------------------------------


def test_framed_responses_cut_anywhere() -> None:
    answers: list[FramedResponse] = [Busy(), Ok(), Refused("token", "no")]
    files = {"a.jpg": b"MORE", "../b.jpg": b"", "c": b"\0\0\0\1{"}
    listed = FileListing(tuple(FileEntry(name, len(data)) for name, data in files.items()))
    data = b"".join(map(encode_framed, answers)) + encode_framed(listed)
    data += b"".join(files.values()) + encode_framed(Finished()) + encode_framed(FileListing(()))
    data += encode_framed(Finished())
    for pieces in every_cut(data):
        reader = ReplyReader()
        events: list[ReplyEvent] = []
        found: list[bytes] = []
        for piece in pieces:
            for event in reader.feed(piece):
                if isinstance(event, FileBegins):
                    found.append(b"")
                if isinstance(event, FileBytes):
                    found[-1] += event.data
                else:
                    events.append(event)
        begins = [one for entry in listed.files for one in (FileBegins(entry), FileEnds())]
        assert events == [*answers, listed, *begins, Finished(), FileListing(()), Finished()]
        assert found == list(files.values())
        assert reader.framed
        assert reader.between


def test_bulk_of_a_sized_file() -> None:
    reader = ReplyReader()
    reader.feed(encode_framed(FileListing((FileEntry("a", 100),))) + b"x" * 10)
    assert reader.bulk == 90
    reader.skip(89)
    assert [type(one) for one in reader.feed(b"x" + encode_framed(Finished()))] == [
        FileBytes,
        FileEnds,
        Finished,
    ]


@pytest.mark.parametrize(
    "document",
    [
        b"{}",
        b"[]",
        b"nonsense",
        b"\xff",
        b"[" * 100_000,
        b'{"answer": "maybe"}',
        b'{"answer": "refused"}',
        b'{"answer": "refused", "kind": "mood", "reason": "x"}',
        b'{"answer": "refused", "kind": "busy", "reason": 5}',
        b'{"answer": "files"}',
        b'{"answer": "files", "files": 5}',
        b'{"answer": "files", "files": [5]}',
        b'{"answer": "files", "files": [{"name": "a"}]}',
        b'{"answer": "files", "files": [{"name": 5, "size": 1}]}',
        b'{"answer": "files", "files": [{"name": "a", "size": -1}]}',
        b'{"answer": "files", "files": [{"name": "a", "size": true}]}',
        b'{"answer": "files", "files": [{"name": "a", "size": 1e3}]}',
        b'{"answer": "files", "files": [{"name": "a", "size": 99999999999999999999}]}',
        b'{"answer": "files", "files": [' + b",".join([b'{"name":"","size":0}'] * 10_001) + b"]}",
    ],
)
def test_invalid_framed_responses(document: bytes) -> None:
    reader = ReplyReader(peer="somebody")
    with pytest.raises(RemoteProtocolError, match="somebody"):
        reader.feed(encode_frame(document))
    with pytest.raises(RemoteProtocolError):
        reader.conclude()


def test_too_long_frame_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="announced"):
        ReplyReader().feed(b"\x00\x7f")


@pytest.mark.parametrize("data", [b"HTTP/1.1", b"\xff", b"BUSz", b"o", b"DONE", b"QUIT"])
def test_invalid_responses(data: bytes) -> None:
    reader = ReplyReader(peer="somebody")
    with pytest.raises(RemoteProtocolError, match="somebody answered"):
        reader.feed(data)


def test_framed_listing_needs_sizes() -> None:
    with pytest.raises(UsageError):
        encode_framed(FileListing((FileEntry("a"),)))


@given(st.binary(max_size=60), st.sampled_from([b"", b"\0", b"\x80\x02](", b"BUSY", b"OK"]))
def test_random_responses(data: bytes, start: bytes) -> None:
    reader = ReplyReader()
    try:
        reader.feed(start + data)
        reader.feed(data)
        reader.conclude()
    except RemoteProtocolError:
        pass


@pytest.mark.parametrize(
    ("name", "local"),
    [
        ("/home/media/2020-07-29 14:54:15.jpg", "2020-07-29 14+54+15.jpg"),
        ("../../etc/passwd", "passwd"),
        ("..", "file"),
        ("/", "file"),
        ("", "file"),
        ("C:\\Windows\\a.jpg", "a.jpg"),
        ("a\0b.jpg", "a_b.jpg"),
        (".bashrc", "bashrc"),
        ("-rf", "_rf"),
    ],
)
def test_local_name_stays_in_the_directory(name: str, local: str) -> None:
    assert local_name(name) == local
