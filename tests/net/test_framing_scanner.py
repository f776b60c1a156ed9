import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynccam.errors import RemoteProtocolError
from asynccam.net.framing import MAX_DEPTH, ObjectScanner
from tests.support.counted_patterns import ScannedBytes
from tests.support.cuts import every_cut


def end_of(pieces: list[bytes]) -> int | None:
    scanner = ObjectScanner()
    buffer = bytearray()
    for piece in pieces:
        buffer += piece
        end = scanner.find_end(buffer)
        if end is not None:
            return end
    return None


OBJECTS = [
    rb"{}",
    rb'{"a": 1}',
    rb'{"a": {"b": [1, 2, {"c": null}]}}',
    rb'{"a": "}"}',
    rb'{"a": "{[\"]}"}',
    rb'{"a": "\\"}',
    rb'{"a": "\\\""}',
    rb'{"\"}": "\\\\"}',
    rb'{"a": ""}',
    '{"name": "Fjällräven \u2603 \U0001f3a5"}'.encode(),
    rb'{"pair": "\ud83c\udfa5"}',
    b'{\r\n\t"a"\t:\n[ ]}',
]


@pytest.mark.parametrize("document", OBJECTS)
@pytest.mark.parametrize("rest", [b"", b"\0\r\n", b"}", b'"', b'{"next": 1}'])
def test_scanner_finds_the_end_for_any_cuts(document: bytes, rest: bytes) -> None:
    for pieces in every_cut(document + rest):
        assert end_of(pieces) == len(document)


@pytest.mark.parametrize("document", OBJECTS)
def test_scanner_incomplete_object(document: bytes) -> None:
    for size in range(len(document)):
        assert end_of([document[:size]]) is None


def test_scanner_nesting_up_to_the_limit() -> None:
    document = b'{"a":' + b"[" * (MAX_DEPTH - 1) + b"]" * (MAX_DEPTH - 1) + b"}"
    assert end_of([document]) == len(document)


def test_scanner_refuses_deep_nesting() -> None:
    scanner = ObjectScanner(peer="camera 7")
    with pytest.raises(RemoteProtocolError, match="camera 7"):
        scanner.find_end(b'{"a":' + b"[" * 100_000)


@pytest.mark.parametrize(
    "document",
    [
        b'{"a":"' + b"x" * 300_000 + b'"}',
        b'{"a":"' + b"\\n" * 150_000 + b'"}',
        b'{"a":[' + b"1," * 150_000 + b"1]}",
        b'{"a":[' + b'{"b":"c"},' * 30_000 + b"1]}",
    ],
    ids=["long string", "escapes", "numbers", "objects"],
)
def test_scanner_is_linear_for_single_bytes(document: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    scanned = ScannedBytes(monkeypatch)
    scanner = ObjectScanner()
    buffer = bytearray()
    for place in range(len(document)):
        buffer += document[place : place + 1]
        end = scanner.find_end(buffer)
    assert end == len(document)
    assert 0 < scanned.offered <= 2 * len(document)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), json_values, max_size=4), st.booleans(), st.data())
def test_scanner_any_object_any_cuts(
    document: dict[str, object], ascii_only: bool, data: st.DataObject
) -> None:
    text = json.dumps(document, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    places = data.draw(st.lists(st.integers(0, len(text)), max_size=10).map(sorted))
    pieces = [text[start:end] for start, end in pairwise([0, *places, len(text)])]
    assert end_of(pieces) == len(text)


@given(st.binary(max_size=200).map(lambda rest: b"{" + rest), st.integers(0, 200))
def test_scanner_garbage_any_cuts(garbage: bytes, place: int) -> None:
    whole = end_of([garbage])
    assert end_of([garbage[:place], garbage[place:]]) == whole
    assert end_of([garbage[place : place + 1] for place in range(len(garbage))]) == whole
