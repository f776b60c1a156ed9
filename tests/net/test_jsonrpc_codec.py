"""JSON-RPC without I/O: whatever frame arrives, it is an answer, a notification or a counted oddity."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynccam.errors import UsageError
from asynccam.net.jsonrpc_codec import ErrorResponse, JsonRpcCodec, Notification, Result, UnexpectedMessage


@pytest.fixture
def caller() -> JsonRpcCodec:
    return JsonRpcCodec()


def test_a_request_is_one_json_document_with_a_number(caller: JsonRpcCodec) -> None:
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


def test_a_notification_carries_no_id(caller: JsonRpcCodec) -> None:
    assert json.loads(caller.notification("bye", [1])) == {"jsonrpc": "2.0", "method": "bye", "params": [1]}
    assert not caller.pending


def test_an_answer_finds_its_request(caller: JsonRpcCodec) -> None:
    request_id, _ = caller.request("ping")
    assert caller.receive(b'{"jsonrpc":"2.0","id":1,"result":"pong"}') == [Result(request_id, "pong")]
    assert not caller.pending


def test_a_null_result_is_an_answer(caller: JsonRpcCodec) -> None:
    caller.request("noop")
    assert caller.receive('{"jsonrpc":"2.0","id":1,"result":null}') == [Result(1, None)]


def test_metadata_beside_the_result_is_kept(caller: JsonRpcCodec) -> None:
    caller.request("ping")
    assert caller.receive(b'{"id":1,"result":[],"metadata":{"ms":3}}') == [Result(1, [], {"ms": 3})]


def test_answers_may_come_out_of_order(caller: JsonRpcCodec) -> None:
    caller.request("a")
    caller.request("b")
    assert caller.receive(b'{"id":2,"result":"b"}') == [Result(2, "b")]
    assert caller.receive(b'{"id":1,"result":"a"}') == [Result(1, "a")]


def test_a_number_may_come_back_as_text_and_text_as_a_number(caller: JsonRpcCodec) -> None:
    caller.request("a")
    caller.request("b", own_id="77")
    assert caller.receive(b'{"id":"1","result":0}') == [Result(1, 0)]
    assert caller.receive(b'{"id":77,"result":0}') == [Result("77", 0)]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (b'{"code":-32601,"message":"no","data":{"a":1}}', ErrorResponse(1, -32601, "no", {"a": 1})),
        (b'{"code":-32001,"message":"who"}', ErrorResponse(1, -32001, "who")),
        (b'{"code":"x","message":5}', ErrorResponse(1, -32603, "")),
        (b"{}", ErrorResponse(1, -32603, "")),
        (b'"broken"', ErrorResponse(1, -32603, "broken")),
        (b"false", ErrorResponse(1, -32603, "error False")),
    ],
)
def test_an_error_without_a_result_is_a_failure(
    caller: JsonRpcCodec, error: bytes, expected: ErrorResponse
) -> None:
    caller.request("x")
    assert caller.receive(b'{"jsonrpc":"2.0","id":1,"error":' + error + b"}") == [expected]


def test_an_error_beside_a_result_wins_unless_it_is_null(caller: JsonRpcCodec) -> None:
    caller.request("x")
    caller.request("y")
    assert caller.receive(b'{"id":1,"result":5,"error":{"code":1,"message":"m"}}') == [
        ErrorResponse(1, 1, "m")
    ]
    assert caller.receive(b'{"id":2,"result":5,"error":null}') == [Result(2, 5)]


def test_a_notification_is_told_from_an_answer(caller: JsonRpcCodec) -> None:
    frame = b'{"jsonrpc":"2.0","method":"camera_status_update","params":{"device":"/dev/video0"}}'
    assert caller.receive(frame) == [Notification("camera_status_update", {"device": "/dev/video0"})]
    assert caller.receive(b'{"method":"tick","id":null}') == [Notification("tick")]


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
def test_what_fits_nothing_is_counted_and_disturbs_no_call(
    caller: JsonRpcCodec, frame: bytes | str, kind: str
) -> None:
    caller.request("ping")
    [event] = caller.receive(frame)
    assert isinstance(event, UnexpectedMessage)
    assert event.kind == kind
    assert len(event.detail) <= 200
    assert caller.unexpected == {kind: 1}
    assert caller.receive(b'{"id":1,"result":"still here"}') == [Result(1, "still here")]


def test_a_batch_gives_each_of_its_parts(caller: JsonRpcCodec) -> None:
    caller.request("a")
    caller.request("b")
    events = caller.receive(
        b'[{"id":2,"result":2},7,{"method":"tick"},{"id":1,"error":{"code":5,"message":"no"}}]'
    )
    assert events[0] == Result(2, 2)
    assert isinstance(events[1], UnexpectedMessage)
    assert events[2:] == [Notification("tick"), ErrorResponse(1, 5, "no")]


def test_the_same_answer_twice_counts_once(caller: JsonRpcCodec) -> None:
    caller.request("a")
    assert caller.receive(b'{"id":1,"result":1}') == [Result(1, 1)]
    [again] = caller.receive(b'{"id":1,"result":2}')
    assert isinstance(again, UnexpectedMessage)


def test_the_answer_to_a_forgotten_request_is_an_oddity(caller: JsonRpcCodec) -> None:
    request_id, _ = caller.request("slow")
    caller.forget(request_id)
    caller.forget(request_id)
    [event] = caller.receive(b'{"id":1,"result":1}')
    assert isinstance(event, UnexpectedMessage)
    assert event.kind == "unknown-id"


def test_an_answer_of_16_mib_is_read(caller: JsonRpcCodec) -> None:
    caller.request("log")
    text = "x" * (16 * 1024 * 1024)
    assert caller.receive(memoryview(b'{"id":1,"result":"' + text.encode() + b'"}')) == [Result(1, text)]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), {1, object()}, "\ud800"])
def test_parameters_that_are_not_json_are_refused_and_leave_no_id(
    caller: JsonRpcCodec, value: object
) -> None:
    with pytest.raises(UsageError, match="start_recording"):
        caller.request("start_recording", {"duration": value})
    assert not caller.pending


def test_the_words_nan_and_infinity_are_harmless(caller: JsonRpcCodec) -> None:
    _, message = caller.request("label", {"text": "NaN and Infinity"})
    assert json.loads(message)["params"] == {"text": "NaN and Infinity"}


def test_a_taken_id_is_refused(caller: JsonRpcCodec) -> None:
    caller.request("a", own_id="mine")
    with pytest.raises(UsageError, match="mine"):
        caller.request("b", own_id="mine")


@given(st.binary() | st.text())
def test_any_frame_at_all_gives_events(frame: bytes | str) -> None:
    caller = JsonRpcCodec()
    caller.request("a")
    assert caller.receive(frame)


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
def test_any_json_at_all_gives_events_and_answers_our_call_at_most_once(document: object) -> None:
    caller = JsonRpcCodec()
    caller.request("a")
    events = caller.receive(json.dumps(document).encode())
    assert events
    answers = [event for event in events if isinstance(event, (Result, ErrorResponse))]
    assert len(answers) <= 1
    assert (not caller.pending) == bool(answers)
    assert sum(caller.unexpected.values()) == sum(isinstance(event, UnexpectedMessage) for event in events)


@given(JSON)
def test_a_result_survives_the_way(value: object) -> None:
    caller = JsonRpcCodec()
    request_id, _ = caller.request("a")
    [event] = caller.receive(json.dumps({"jsonrpc": "2.0", "id": request_id, "result": value}))
    assert event == Result(request_id, value)


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e999", "9" * 400, "9" * 5000])
def test_numbers_out_of_bounds_are_null_and_the_call_is_answered(number: str) -> None:
    caller = JsonRpcCodec()
    request_id, _ = caller.request("a")
    [event] = caller.receive(f'{{"id": {request_id}, "result": {{"fps": {number}, "name": "a\\ud800"}}}}')
    assert event == Result(request_id, {"fps": None, "name": "a?"})


def test_half_a_character_in_a_refusal_is_replaced() -> None:
    caller = JsonRpcCodec()
    request_id, _ = caller.request("a")
    [event] = caller.receive(
        rf'{{"id": {request_id}, "error": {{"code": 7, "message": "a\udfff", "data": {{"\ud800": 1}}}}}}'
    )
    assert event == ErrorResponse(request_id, 7, "a?", {"?": 1})
