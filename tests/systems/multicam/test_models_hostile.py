import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynccam.errors import RemoteProtocolError
from asynccam.systems.multicam import (
    CommandMessage,
    ErrorResponse,
    FileMetadata,
    FileResponse,
    ListFilesResponse,
    StatusResponse,
    StopRecordingResponse,
    UploadItem,
)
from asynccam.systems.multicam.models import ProtocolMessage

MESSAGES: list[type[ProtocolMessage]] = [
    CommandMessage,
    StatusResponse,
    StopRecordingResponse,
    ErrorResponse,
    FileResponse,
    FileMetadata,
    ListFilesResponse,
    UploadItem,
]


@pytest.mark.parametrize(
    "fields",
    [
        '"isRecording":1',
        '"isRecording":"true"',
        '"timestamp":"1729000000"',
        '"timestamp":NaN',
        '"timestamp":-Infinity',
        '"timestamp":1e999',
        '"timestamp":true',
        '"timestamp":null',
        '"timestamp":' + "9" * 400,
        '"deviceId":7',
        '"deviceId":null',
        '"status":null',
        '"status":["ready"]',
        '"batteryLevel":Infinity',
        '"uploadQueue":{}',
        '"uploadQueue":[7]',
        '"unknown":NaN',
        '"unknown":[{"deep":1e999}]',
        '"unknown":"\\ud800"',
        '"unknown":"\\udfff and more"',
        '"unknown":' + "[" * 100_000,
        '"unknown":' + "[" * 100_000 + "]" * 100_000,
        '"unknown":' + '{"a":' * 100_000,
        '"unknown":' + "9" * 5000,
    ],
    ids=lambda fields: fields[:40],
)
def test_wrong_types_and_values_are_refused(fields: str) -> None:
    good = '"deviceId":"d","status":"ready","timestamp":1'
    StatusResponse.from_json(f"{{{good}}}")
    with pytest.raises(RemoteProtocolError):
        StatusResponse.from_json(f"{{{good},{fields}}}")


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"null",
        b"7",
        b'"ready"',
        b"[]",
        b"[{}]",
        b"{}",
        b"{",
        b'{"status":"ready"',
        b'{"status":"ready"}x',
        b'{"status":"\xff\xfe"}',
        b'{"status":"\xe2\x82"}',
        b'{"\xc3":1}',
        b"{'status':'ready'}",
        b'{"status":"a\x00b"}',
        b"\x00\x00\x00\x02{}",
        b"\xff" * 100,
    ],
)
@pytest.mark.parametrize("message", MESSAGES)
def test_other_documents_are_refused(message: type[ProtocolMessage], document: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="the device sent no valid"):
        message.from_json(document)
    with pytest.raises(RemoteProtocolError):
        message.from_json(document.decode("utf-8", "surrogateescape"))


def test_repeated_key_last_wins() -> None:
    assert FileResponse.from_json('{"fileSize":1,"fileSize":2}').fileSize == 2


def test_padding_around_a_message_is_ignored() -> None:
    assert FileResponse.from_json(b' \r\n{"fileSize":1}\0\0\r\n').fileSize == 1
    assert FileResponse.from_json('\t{"fileSize":1}\n\0').fileSize == 1


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=10,
)
field_names = st.sampled_from(sorted({name for message in MESSAGES for name in message.model_fields}))


GOOD = {"command": "X", "deviceId": "d", "status": "ready", "timestamp": 1, "fileName": "a", "fileSize": 1}


@given(st.sampled_from(MESSAGES), st.dictionaries(field_names | st.text(), json_values, max_size=4))
def test_any_fields(message: type[ProtocolMessage], fields: dict[str, object]) -> None:
    try:
        parsed = message.from_json(json.dumps(GOOD | fields))
    except RemoteProtocolError:
        return
    repr(parsed)
    assert message.from_json(parsed.to_bytes()) == parsed


@given(st.sampled_from(MESSAGES), st.binary())
def test_any_bytes(message: type[ProtocolMessage], document: bytes) -> None:
    try:
        message.from_json(document)
    except RemoteProtocolError:
        return  # the other good outcome


SIZES = [
    ("12", 12),
    ('"12"', 12),
    ('" 12 "', 12),
    ('"12.0"', 12),
    ("12.0", 12),
    ("1.2e1", 12),
    ("0", 0),
    ('"0"', 0),
    ("-1", None),
    ("9223372036854775808", None),
    ("1.5", None),
    ("-0.5", None),
    ("true", None),
    ("null", None),
    ("NaN", None),
    ("1e400", None),
    ("-Infinity", None),
    ('"-1"', None),
    ('"many"', None),
    ('""', None),
    ('"1_000"', None),
    ('"' + "9" * 5000 + '"', None),
    ('"' + "0" * 5000 + '5"', None),
    ("9" * 400, None),
    ("[5]", None),
    ('{"bytes": 5}', None),
]


@pytest.mark.parametrize(("written", "meant"), SIZES)
def test_size_is_parsed_in_any_form_and_invalid_is_none(written: str, meant: int | None) -> None:
    file = f'{{"fileName":"v.mp4","fileSize":{written}}}'
    head = '"deviceId":"d","status":"ready","timestamp":1'
    assert FileMetadata.from_json(file).fileSize == meant
    assert (
        StopRecordingResponse.from_json(f'{{{head},"fileName":"v","fileSize":{written}}}').fileSize == meant
    )
    assert FileResponse.from_json(file).fileSize == meant
    listing = ListFilesResponse.from_json(f'{{{head},"files":[{file},{{"fileName":"w","fileSize":7}}]}}')
    assert [one.fileSize for one in listing.files] == [meant, 7]
    item = f'{{"fileName":"a","status":"queued","fileSize":{written},"bytesUploaded":{written}}}'
    (upload,) = StatusResponse.from_json(f'{{{head},"uploadQueue":[{item}]}}').uploadQueue
    assert (upload.fileSize, upload.bytesUploaded) == (meant or 0, meant or 0)
