"""Camera addresses by hand and back."""

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynccam.errors import AddressError
from asynccam.model.address import Address
from asynccam.model.systems import schemes


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("multicam://127.0.0.1:8080", Address("multicam", "127.0.0.1", 8080)),
        ("multicam://hill.local", Address("multicam", "hill.local", 8080)),
        ("MULTICAM://Hill.local/", Address("multicam", "hill.local", 8080)),
        ("mediamtx://host:8002/camera0", Address("mediamtx", "host", 8002, "camera0")),
        ("mediamtxs://host/camera0", Address("mediamtx", "host", 8002, "camera0", secure=True)),
        ("snapshot://host", Address("snapshot", "host", 88)),
        ("snapshots://host", Address("snapshot", "host", 443, secure=True)),
        ("thorvision://[::1]:9", Address("thorvision", "::1", 9)),
        ("thorvision://[fe80::1%eth0]", Address("thorvision", "fe80::1%eth0", 8000)),
        ("nanocam://under_score", Address("nanocam", "under_score", 7200)),
        ("mediamtx://host/a%2Fb%20c", Address("mediamtx", "host", 8002, "a/b c")),
        ("mediamtx://host/a/b", Address("mediamtx", "host", 8002, "a/b")),
        ("snapshot://host/left", Address("snapshot", "host", 88, "left")),
        ("snapshot://host/", Address("snapshot", "host", 88)),
        ("snapshot://host//", Address("snapshot", "host", 88)),
        ("snapshot://host/cams/", Address("snapshot", "host", 88, path="/cams")),
        ("snapshot://host/cams/left", Address("snapshot", "host", 88, "left", path="/cams")),
        ("snapshots://host/a/b/c%2Fd", Address("snapshot", "host", 443, "c/d", secure=True, path="/a/b")),
        ("snapshot://host/a%2fb/süd/x", Address("snapshot", "host", 88, "x", path="/a%2Fb/s%C3%BCd")),
        ("snapshot://host//cams//left", Address("snapshot", "host", 88, "left", path="//cams")),
        ("snapshot://host/cams/..", Address("snapshot", "host", 88, "..", path="/cams")),
    ],
)
def test_addresses_are_read(text: str, address: Address) -> None:
    assert Address.parse(text) == address


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "SYSTEM://HOST"),
        ("127.0.0.1:8080", "SYSTEM://HOST"),
        ("http://host", "known are multicam, "),
        ("://host", "unknown system ''"),
        ("multicam://", "not a camera address"),
        ("multicam://:8080", "not a camera address"),
        ("multicam:///camera", "not a camera address"),
        ("multicam://host:port", "not a camera address"),
        ("multicam://host:0", "not a TCP port"),
        ("multicam://host:65536", "not a camera address"),
        ("multicam://host:-1", "not a camera address"),
        ("multicam://[::1", "not a camera address"),
        ("multicam://ho st", "not a camera address"),
        ("multicam://host?token=x", "not a camera address"),
        ("multicam://host#here", "not a camera address"),
        ("multicam://bücher", "not a camera address"),
        ("snapshot://host/../left", "no segments"),
        ("snapshot://host/a/%2E/left", "no segments"),
        ("snapshot://host/\udcff/left", "not a path"),
        ("snapshot://host/\udcff", "not the name of a camera"),
    ],
)
def test_invalid_address_is_refused(text: str, words: str) -> None:
    with pytest.raises(AddressError, match=words):
        Address.parse(text)


def test_credentials_are_refused_and_not_repeated() -> None:
    with pytest.raises(AddressError, match="token") as caught:
        Address.parse("mediamtx://admin:hunter2@host/camera")
    assert "hunter2" not in str(caught.value)


def test_at_sign_in_camera_name_is_not_a_credential() -> None:
    assert Address.parse("mediamtx://host/front@door").camera == "front@door"


@pytest.mark.parametrize("wrong", [("ftp", False, 21), ("multicam", True, 1), ("multicam", False, 0)])
def test_address_constructor_checks_values(wrong: tuple[str, bool, int]) -> None:
    system, secure, port = wrong
    with pytest.raises(AddressError):
        Address(system, "host", port, secure=secure)


@pytest.mark.parametrize("system", ["multicam", "mediamtx", "thorvision", "nanocam"])
def test_only_an_http_server_of_many_lives_below_a_path(system: str) -> None:
    with pytest.raises(AddressError, match="has no path"):
        Address(system, "host", 1, path="/cams")


@pytest.mark.parametrize("path", ["cams", "/cams", "/cams/", "/c%61ms//"])
def test_path_has_one_canonical_form(path: str) -> None:
    address = Address("snapshot", "host", 88, path=path)
    assert address == Address("snapshot", "host", 88, path="/cams")
    assert str(address) == "snapshot://host:88/cams/"
    assert str(address.with_camera("a/b")) == "snapshot://host:88/cams/a%2Fb"
    assert address.with_camera("a").with_camera("") == address


def test_another_camera_on_the_same_host() -> None:
    assert str(Address.parse("mediamtxs://host/a").with_camera("b c")) == "mediamtxs://host:8002/b%20c"


@pytest.mark.parametrize("scheme", schemes())
def test_scheme_round_trips(scheme: str) -> None:
    assert str(Address.parse(f"{scheme}://host:1")) == f"{scheme}://host:1"


@given(
    st.sampled_from(sorted((system.name, secure) for system, _, secure in schemes().values())),
    st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,20}[a-z0-9])?", fullmatch=True) | st.ip_addresses().map(str),
    st.integers(1, 65535),
    st.text(),
)
def test_address_text_round_trips(kind: tuple[str, bool], host: str, port: int, camera: str) -> None:
    system, secure = kind
    address = Address(system, host, port, camera, secure)
    assert Address.parse(str(address)) == address


@given(st.text(), st.lists(st.text()), st.booleans())
def test_path_and_camera_are_distinguished(camera: str, segments: list[str], secure: bool) -> None:
    path = "".join(f"/{quote(segment, safe='')}" for segment in segments if segment.strip("."))
    address = Address("snapshot", "host", 88, camera, secure, path)
    assert address.path == path
    assert Address.parse(str(address)) == address


@given(st.text())
def test_any_text_is_an_address_or_an_address_error(text: str) -> None:
    for candidate in (text, f"multicam://{text}", f"multicam://h:{text}", f"multicam://[{text}]"):
        try:
            address = Address.parse(candidate)
        except AddressError:
            continue
        assert 1 <= address.port <= 65535
