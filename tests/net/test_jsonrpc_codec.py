"""JSON-RPC without I/O: whatever frame arrives, it is an answer, a notification or a counted oddity."""

import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynccam.errors import UsageError
from asynccam.net.jsonrpc_codec import (
    ErrorReply,
    Event,
    JsonRpcCodec,
    Notification,
    Result,
    UnexpectedMessage,
)


@pytest.fixture
def caller() -> JsonRpcCodec:
    return JsonRpcCodec()


def received(caller: JsonRpcCodec, frame: bytes | str) -> list[Event]:
    return list(caller.receive(frame))


def test_codec_request_is_one_numbered_document(caller: JsonRpcCodec) -> None:
    first, message = caller.request("take_snapshot", {"device": "camera0"})
    second, bare = caller.request("ping")
    assert json.loads(message) == {
        "jsonrpc": "2.0",
        "method": "take_snapshot",
        "params": {"device": "camera0"},
        "id": first,
    }
    assert json.loads(bare) == {"jsonrpc": "2.0", "method": "ping", "id": second}
    assert first != second
    assert caller.pending == {first, second}


def test_codec_result_of_a_request(caller: JsonRpcCodec) -> None:
    request_id, _ = caller.request("ping")
    assert received(caller, b'{"jsonrpc":"2.0","id":1,"result":"pong"}') == [Result(request_id, "pong")]
    assert not caller.pending


def test_codec_null_result(caller: JsonRpcCodec) -> None:
    caller.request("noop")
    assert received(caller, '{"jsonrpc":"2.0","id":1,"result":null}') == [Result(1, None)]


def test_codec_results_out_of_order(caller: JsonRpcCodec) -> None:
    caller.request("a")
    caller.request("b")
    assert received(caller, b'{"id":2,"result":"b"}') == [Result(2, "b")]
    assert received(caller, b'{"id":1,"result":"a"}') == [Result(1, "a")]


def test_codec_id_as_text_or_number(caller: JsonRpcCodec) -> None:
    caller.request("a")
    caller.request("b")
    assert received(caller, b'{"id":"1","result":0}') == [Result(1, 0)]
    assert received(caller, b'{"id":2,"result":0,"metadata":{"ms":3}}') == [Result(2, 0)]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (b'{"code":-32601,"message":"no","data":{"a":1}}', ErrorReply(1, -32601, "no", {"a": 1})),
        (b'{"code":-32001,"message":"who"}', ErrorReply(1, -32001, "who")),
        (b'{"code":"x","message":5}', ErrorReply(1, -32603, "")),
        (b"{}", ErrorReply(1, -32603, "")),
        (b'"broken"', ErrorReply(1, -32603, "broken")),
        (b"false", ErrorReply(1, -32603, "error False")),
    ],
)
def test_codec_error_reply(caller: JsonRpcCodec, error: bytes, expected: ErrorReply) -> None:
    caller.request("x")
    assert received(caller, b'{"jsonrpc":"2.0","id":1,"error":' + error + b"}") == [expected]


def test_codec_error_beside_a_result(caller: JsonRpcCodec) -> None:
    caller.request("x")
    caller.request("y")
    assert received(caller, b'{"id":1,"result":5,"error":{"code":1,"message":"m"}}') == [
        ErrorReply(1, 1, "m")
    ]
    assert received(caller, b'{"id":2,"result":5,"error":null}') == [Result(2, 5)]


def test_codec_distinguishes_notifications(caller: JsonRpcCodec) -> None:
    frame = b'{"jsonrpc":"2.0","method":"camera_status_update","params":{"device":"/dev/video0"}}'
    assert received(caller, frame) == [Notification("camera_status_update", {"device": "/dev/video0"})]
    assert received(caller, b'{"method":"tick","id":null}') == [Notification("tick")]


@pytest.mark.parametrize(
    ("frame", "kind"),
    [
        (b"", "not-json"),
        (b"hello", "not-json"),
        (b'{"id":1', "not-json"),
        (b"\xff\xfe\x00", "not-json"),
        (b'{"id":1,"result":"\xc3"}', "not-json"),
        (b"[" * 100_000, "not-json"),
        (b'{"a":' * 50_000, "not-json"),
        ("\ud800", "not-json"),
        (b"7", "not-an-object"),
        (b"null", "not-an-object"),
        (b"[]", "not-an-object"),
        (b"[[]]", "not-an-object"),
        (b'{"jsonrpc":"2.0","id":99,"result":1}', "unknown-id"),
        (b'{"jsonrpc":"2.0","id":99,"error":{"code":1,"message":""}}', "unknown-id"),
        (b'{"id":true,"result":1}', "unknown-id"),
        (b'{"id":1.0,"result":1}', "unknown-id"),
        (b'{"id":[1],"result":1}', "unknown-id"),
        (b'{"id":null,"error":{"code":-32700,"message":"parse error"}}', "error-without-id"),
        (b'{"error":{"code":-32603,"message":""}}', "error-without-id"),
        (b'{"id":1}', "no-content"),
        (b"{}", "no-content"),
        (b'{"method":5}', "bad-method"),
        (b'{"method":"do_it","id":4}', "request"),
    ],
)
def test_codec_unexpected_messages_are_counted(caller: JsonRpcCodec, frame: bytes | str, kind: str) -> None:
    caller.request("ping")
    [event] = received(caller, frame)
    assert isinstance(event, UnexpectedMessage)
    assert event.kind == kind
    assert len(event.detail) <= 200
    assert caller.unexpected == {kind: 1}
    assert received(caller, b'{"id":1,"result":"still here"}') == [Result(1, "still here")]


def test_codec_batch(caller: JsonRpcCodec) -> None:
    caller.request("a")
    caller.request("b")
    events = received(
        caller, b'[{"id":2,"result":2},7,{"method":"tick"},{"id":1,"error":{"code":5,"message":"no"}}]'
    )
    assert events[0] == Result(2, 2)
    assert isinstance(events[1], UnexpectedMessage)
    assert events[2:] == [Notification("tick"), ErrorReply(1, 5, "no")]


def test_codec_batch_is_decoded_as_it_is_read(caller: JsonRpcCodec) -> None:
    caller.request("a")
    caller.request("b")
    events = caller.receive(b'[{"id":1,"result":1},{"id":2,"result":2}]')
    assert not isinstance(events, tuple)
    assert next(events) == Result(1, 1)
    assert caller.pending == {2}  # not answered, if the rest is never read
    assert next(events) == Result(2, 2)


@pytest.mark.parametrize("text", ["01", "1.0", "+1", " 1", "1 ", "", "one", "\u0661", "1" * 5000])
def test_codec_id_as_other_text_is_unknown(caller: JsonRpcCodec, text: str) -> None:
    caller.request("a")
    [event] = received(caller, json.dumps({"id": text, "result": 0}))
    assert isinstance(event, UnexpectedMessage)
    assert event.kind == "unknown-id"
    assert caller.pending == {1}


def test_codec_duplicate_reply_is_unexpected(caller: JsonRpcCodec) -> None:
    caller.request("a")
    assert received(caller, b'{"id":1,"result":1}') == [Result(1, 1)]
    [again] = received(caller, b'{"id":1,"result":2}')
    assert isinstance(again, UnexpectedMessage)


def test_codec_reply_to_a_forgotten_request_is_unexpected(caller: JsonRpcCodec) -> None:
    request_id, _ = caller.request("slow")
    caller.forget(request_id)
    caller.forget(request_id)
    [event] = received(caller, b'{"id":1,"result":1}')
    assert isinstance(event, UnexpectedMessage)
    assert event.kind == "unknown-id"


def test_codec_reply_of_16_mib(caller: JsonRpcCodec) -> None:
    caller.request("log")
    text = "x" * (16 * 1024 * 1024)
    assert received(caller, b'{"id":1,"result":"' + text.encode() + b'"}') == [Result(1, text)]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), {1, object()}, "\ud800"])
def test_codec_refuses_parameters_that_are_not_json(caller: JsonRpcCodec, value: object) -> None:
    with pytest.raises(UsageError, match="start_recording"):
        caller.request("start_recording", {"duration": value})
    assert not caller.pending


def test_codec_text_nan_and_infinity(caller: JsonRpcCodec) -> None:
    _, message = caller.request("label", {"text": "NaN and Infinity"})
    assert json.loads(message)["params"] == {"text": "NaN and Infinity"}


@given(st.binary() | st.text())
def test_codec_any_frame_gives_events(frame: bytes | str) -> None:
    caller = JsonRpcCodec()
    caller.request("a")
    assert received(caller, frame)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.sampled_from(["id", "result", "error", "method", "params", "x"]), inner)
    ),
)


@given(JSON)
def test_codec_any_json_answers_at_most_once(document: object) -> None:
    caller = JsonRpcCodec()
    caller.request("a")
    events = received(caller, json.dumps(document).encode())
    assert events
    answers = [event for event in events if isinstance(event, (Result, ErrorReply))]
    assert len(answers) <= 1
    assert (not caller.pending) == bool(answers)
    assert sum(caller.unexpected.values()) == sum(isinstance(event, UnexpectedMessage) for event in events)


@given(JSON)
def test_codec_result_round_trip(value: object) -> None:
    caller = JsonRpcCodec()
    request_id, _ = caller.request("a")
    [event] = received(caller, json.dumps({"jsonrpc": "2.0", "id": request_id, "result": value}))
    assert event == Result(request_id, value)


@pytest.mark.parametrize("frame", [b"\xff" * 1_000_000, b'"' + b"\x7f" * 1_000_000 + b'"'])
def test_codec_quotes_the_beginning_of_a_long_message_only(caller: JsonRpcCodec, frame: bytes) -> None:
    tracemalloc.start()
    try:
        [event] = received(caller, frame)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(event, UnexpectedMessage)
    assert len(event.detail) == 200
    assert peak < 2.5 * len(frame)


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e999", "9" * 400, "9" * 5000])
def test_codec_numbers_out_of_bounds_become_null(number: str) -> None:
    caller = JsonRpcCodec()
    request_id, _ = caller.request("a")
    [event] = received(caller, f'{{"id": {request_id}, "result": {{"fps": {number}, "name": "a\\ud800"}}}}')
    assert event == Result(request_id, {"fps": None, "name": "a?"})


def test_codec_lone_surrogate_in_an_error_is_replaced() -> None:
    caller = JsonRpcCodec()
    request_id, _ = caller.request("a")
    [event] = received(
        caller,
        rf'{{"id": {request_id}, "error": {{"code": 7, "message": "a\udfff", "data": {{"\ud800": 1}}}}}}',
    )
    assert event == ErrorReply(request_id, 7, "a?", {"?": 1})
