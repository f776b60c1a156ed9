"""Text for the log shows no secret, stays on one line and is bounded."""

import json
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynccam.redaction import HIDDEN, MAX_TEXT, loggable, loggable_command, loggable_json

SECRET = "s3cr3t-V4lue"
TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl"


@pytest.mark.parametrize(
    "key",
    [
        "token",
        "auth_token",
        "AUTH_TOKEN",
        "password",
        "api_key",
        "apiKey",
        "Authorization",
        "Set-Cookie",
        "user-pw",
    ],
)
def test_loggable_secret_key_hides_its_value(key: str) -> None:
    for value in ({key: SECRET}, {"params": [{key: SECRET}]}, {key: {"inner": SECRET}}):
        assert SECRET not in loggable(value)
        assert HIDDEN in loggable(value)


@pytest.mark.parametrize(
    "text",
    [
        f"http://user:{SECRET}@host/path",
        f"rtsp://{SECRET}@host",
        f"http://host/path?token={SECRET}&x=1",
        f"https://bucket.example/a.mp4?X-Amz-Signature={SECRET}&X-Amz-Date=1",
        f'{{"awsAccessKeyId": "{SECRET}"}}',
        f"Authorization: Bearer {SECRET}",
        f"Basic {SECRET}",
        f"password='{SECRET}'",
        f'rtspsrc user-pw="{SECRET}"',
        f"X-Api-Key: {SECRET}",
    ],
)
def test_loggable_text_hides_secrets(text: str) -> None:
    shown = loggable(text)
    assert SECRET not in shown
    assert HIDDEN in shown


def test_loggable_text_hides_json_web_tokens() -> None:
    for value in (TOKEN, f"sign in with {TOKEN}.", {"said": [TOKEN]}):
        assert TOKEN not in loggable(value)
        assert "c2lnbmF0dXJl" not in loggable(value)


def test_loggable_keeps_other_text() -> None:
    assert loggable({"method": "start_recording", "params": {"device": "camera0"}}) == (
        '{"method": "start_recording", "params": {"device": "camera0"}}'
    )
    assert loggable({"token": ""}) == '{"token": ""}'
    assert loggable("http://host:8002/files/a.mp4") == "http://host:8002/files/a.mp4"
    assert loggable(b"abc") == "<3 bytes>"
    assert loggable(None) == "None"


def test_loggable_command_quotes_and_hides() -> None:
    line = loggable_command(
        [
            "gst-launch-1.0",
            "rtspsrc",
            f"location=rtsp://me:{SECRET}@host/a b",
            f"user-pw={SECRET}",
            "--token",
            SECRET,
            "!",
            "fakesink",
        ]
    )
    assert SECRET not in line
    assert line.startswith("gst-launch-1.0 rtspsrc ")
    assert line.endswith(f"--token {HIDDEN} '!' fakesink")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def test_loggable_json_hides_values_inside_a_secret() -> None:
    inside = {"tokens": [SECRET, {"a": SECRET}], "password": f'"{SECRET}', "command": "START"}
    document = json.dumps(inside).encode()
    assert SECRET not in loggable_json(document + b" " * 10_000)  # as text
    assert loggable_json(document) == '{"tokens": "***", "password": "***", "command": "START"}'
    assert SECRET not in loggable(f'{{"password": "a\\"{SECRET}", "b": 1}}')
    assert loggable_json(b"\xff{not JSON") == "\ufffd{not JSON"
    assert loggable_json(b"[" * 1900).startswith("[")


def test_loggable_numbers_of_any_size_and_lone_surrogates() -> None:
    assert loggable(10**5000) == "<large number>"
    assert loggable([10**5000]) == '["<large number>"]'
    assert loggable("a\ud800b") == "a b"


def test_loggable_shows_a_bounded_number_of_values() -> None:
    looked_at = 0

    class Counted:
        def __str__(self) -> str:
            nonlocal looked_at
            looked_at += 1
            return "x"

    value: object = [Counted() for _ in range(20)]
    for _ in range(4):
        value = [value] * 20
    assert len(loggable(value)) <= MAX_TEXT
    assert looked_at <= 220


@given(JSON)
def test_loggable_any_value_is_one_bounded_line(value: Any) -> None:
    shown = loggable(value)
    assert len(shown) <= MAX_TEXT
    assert len(shown.splitlines()) <= 1


@given(st.text(string.ascii_letters + string.digits + "-_.~+"), st.text(), st.text())
def test_loggable_token_is_hidden_beside_any_text(end: str, before: str, after: str) -> None:
    secret = f"Zq9{end}"
    shown = loggable({"a": [before.replace("Z", ""), {"auth_token": secret, "b": after.replace("Z", "")}]})
    assert "Zq9" not in shown


def test_loggable_large_text_is_cut_before_it_is_searched() -> None:
    assert len(loggable("x" * 10_000_000)) == MAX_TEXT
