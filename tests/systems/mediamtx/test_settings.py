"""Where the client gets host and credentials from, and what of it is shown."""

import asyncio

import pytest

from asynccam.errors import UsageError
from asynccam.systems.mediamtx import CameraClient
from asynccam.systems.mediamtx.rpc import _Call
from asynccam.systems.mediamtx.settings import ServiceCredentials, credentials, endpoint

NAMES = ("HOST", "PORT", "USE_SSL", "AUTH_TYPE", "AUTH_TOKEN", "API_KEY")


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(f"MEDIAMTX_{name}", raising=False)


def test_defaults_are_those_of_sdk() -> None:
    assert str(CameraClient().endpoint.url) == "ws://localhost:8080/ws"
    assert credentials(None, None, None).auth_type == "jwt"


async def test_environment_fills_missing_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in zip(NAMES, ("cam", "8002", "TRUE", "api_key", "t", "k"), strict=True):
        monkeypatch.setenv(f"MEDIAMTX_{name}", value)
    assert endpoint(None, None, None, "/ws", None).url == "wss://cam:8002/ws"
    assert endpoint("other", 1, False, "/p", None).url == "ws://other:1/p"
    found = credentials(None, None, None)
    assert (found.auth_type, await found.secret()) == ("api_key", "k")
    given = credentials("jwt", "mine", None)
    assert (given.auth_type, await given.secret()) == ("jwt", "mine")


def test_empty_environment_variable_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.setenv(f"MEDIAMTX_{name}", "")
    assert CameraClient().endpoint.url == "ws://localhost:8080/ws"
    assert credentials(None, None, None).auth_type == "jwt"


@pytest.mark.parametrize(
    ("arguments", "kind", "secret"),
    [
        ((None, None, "k"), "api_key", "k"),
        ((None, "t", "k"), "jwt", "t"),
        (("auto", None, "k"), "auto", "k"),
        (("auto", "t", "k"), "auto", "t"),
        (("jwt", None, "k"), "jwt", None),
    ],
)
async def test_auth_type_follows_given_secret(
    arguments: tuple[str | None, str | None, str | None], kind: str, secret: str | None
) -> None:
    found = credentials(*arguments)
    assert (found.auth_type, await found.secret()) == (kind, secret)


@pytest.mark.parametrize(
    ("name", "value"), [("PORT", "eighty"), ("PORT", "0"), ("USE_SSL", "perhaps"), ("AUTH_TYPE", "basic")]
)
def test_invalid_environment_variable_is_an_error(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"MEDIAMTX_{name}", value)
    with pytest.raises(UsageError, match=value):
        CameraClient()


def test_repr_shows_no_secret() -> None:
    client = CameraClient("cam", auth_token="topsecret")
    assert "topsecret" not in repr(client) + repr(ServiceCredentials("jwt", "topsecret"))
    assert repr(client) == "<CameraClient mediamtx://cam:8080 closed>"
    call = _Call("authenticate", {"auth_token": "topsecret"}, 0.0, False, None, secret="topsecret")
    assert "authenticate" in repr(call)
    assert "topsecret" not in repr(call)


def test_without_credentials_no_header_is_sent() -> None:
    assert asyncio.run(_headers(ServiceCredentials("jwt", None))) == {}


async def _headers(of: ServiceCredentials) -> object:
    return await of.headers()
