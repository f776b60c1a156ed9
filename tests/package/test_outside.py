"""Data from outside: text that can be written, numbers that fit, bounded depth."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynccam.outside import MAX_DEPTH, clean_json, clean_text, is_bounded, is_suspicious, read_json

ANY_TEXT = st.text(st.characters(codec=None))
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner, max_size=4),
    max_leaves=12,
)


@given(ANY_TEXT)
def test_clean_text_is_writable_and_idempotent(text: str) -> None:
    cleaned = clean_text(text)

    assert "\0" not in cleaned
    assert cleaned.encode().decode() == cleaned == clean_text(cleaned)
    assert len(cleaned) == len(text)
    assert len(clean_text(text, most=5)) <= 5


def _check(value: Any) -> None:
    if isinstance(value, str):
        value.encode()
    elif isinstance(value, dict):
        for key, inner in value.items():
            _check(key)
            _check(inner)
    elif isinstance(value, list):
        for inner in value:
            _check(inner)
    elif value is not None:
        assert is_bounded(value)


@given(ANY_JSON, st.booleans())
def test_read_json_result_is_writable(value: Any, ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only)

    _check(read_json(text, lenient=True))
    try:
        found = read_json(text.encode("utf-8", "surrogatepass"))
    except ValueError:
        return
    _check(found)
    assert found == json.loads(clean_json(text))


@pytest.mark.parametrize(
    "text",
    [
        "NaN",
        "[Infinity]",
        '{"a":-Infinity}',
        "1e999",
        "-1E+400",
        "9" * 400,
        "9" * 5000,
        "1" + "0" * 400 + ".5",
    ],
)
def test_read_json_numbers_out_of_bounds(text: str) -> None:
    with pytest.raises(ValueError, match=r"number|integer"):
        read_json(text)
    assert read_json(text, lenient=True) in (None, [None], {"a": None})
    assert json.loads(clean_json(text)) in (None, [None], {"a": None})


@pytest.mark.parametrize("number", [0, -1, 2**63, 2**64 - 1, -(2**63), 1790000000123456789, 1.5e300, 5e-324])
def test_read_json_numbers_within_bounds(number: float) -> None:
    assert read_json(json.dumps(number)) == number


@pytest.mark.parametrize("before", ["", " ", "[", '{"a":', "[1,", "[-"])
@pytest.mark.parametrize("number", ["1e999", "1.5E+400", "12e0400", "9" * 20, "9" * 40])
def test_suspicious_numbers(before: str, number: str) -> None:
    assert is_suspicious(f"{before}{number}".encode())


@pytest.mark.parametrize(
    "text",
    [
        "[0.00004052700783185025,-1.0000000000000000000001]",
        '{"sha256":"12e3456789a1234567890123456789f9e999"}',
        '{"name":"P1234567890123456789012e500.mp4"}',
        '"12345678901234567890123"',
    ],
)
def test_digits_of_fractions_and_names_are_not_suspicious(text: str) -> None:
    assert not is_suspicious(text.encode())
    assert read_json(text) == json.loads(text)
    assert clean_json(text) is text


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 2_000, 100_000])
@pytest.mark.parametrize("form", ["[{}]", '{{"a":{}}}'])
def test_read_json_refuses_deep_documents(depth: int, form: str) -> None:
    before, after = form.replace("{{", "{").replace("}}", "}").split("{}")
    for inside in ("1", r'"\ud800"'):
        text = before * depth + inside + after * depth
        with pytest.raises(ValueError, match="deep"):
            read_json(text)


@pytest.mark.parametrize("text", ["", "{", '"\x01"', b"\xff", "[1,]", "nul"])
def test_read_json_refuses_invalid_json(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_json(text)


def test_lone_surrogates_are_replaced() -> None:
    document = r'{"\ud800": "a\u0000\udfffb \ud83c\udfa5 \\ud800"}'
    assert read_json(document) == {"?": "a\0?b 🎥 \\ud800"}
    assert read_json(b'"\xed\xa0\x80"') == "?"
    assert clean_text("a\0\udfffb") == "a??b"
