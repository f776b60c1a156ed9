"""Deadlines given to a client are kept, and tokens that are early, late or missing are named so."""

import asyncio
import base64
import json
import socket
from typing import Any

import pytest

from asynccam.errors import TimeoutError
from asynccam.net.reconnecting import ConnectionState
from asynccam.systems.mediamtx import AuthenticationError, CameraClient, ConnectionError
from asynccam.systems.mediamtx.auth import advice, may_be_early, token_times
from asynccam.wall_clock import unix_now
from tests.support.waiting import eventually
from tests.systems.mediamtx.clients import client_of, connected
from tests.systems.mediamtx.peer import (
    TOKEN,
    Gen1,
    Gen2,
    Peer,
    Request,
    Visitor,
    Words,
    error,
    never,
    running,
)

LONG = 8.0
"""Seconds within which everything here has to be over, on a slow machine too."""


def web_token(**claims: Any) -> str:
    """A JSON Web Token whose signature nobody checks."""

    def part(value: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    return f"{part({'alg': 'HS256'})}.{part(claims)}.c2lnbmVk"


async def test_connect_to_silent_host_takes_one_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:  # takes the connection and says nothing
        client = CameraClient("127.0.0.1", mute.getsockname()[1], timeout=1.0, auth_token=TOKEN)
        async with asyncio.timeout(LONG):
            with pytest.raises(TimeoutError, match="within 1 s"):
                await client.connect()
        assert client.state is ConnectionState.CLOSED


@pytest.mark.parametrize("method", ["authenticate", "get_subscription_stats", "get_camera_list"])
@pytest.mark.parametrize("kind", [Gen1, Gen2])
async def test_silent_sign_in_ends_at_timeout(kind: type[Peer], method: str) -> None:
    async with running(kind()) as peer:
        peer.answers[method] = never
        async with asyncio.timeout(LONG):
            with pytest.raises(TimeoutError):
                await client_of(peer, timeout=1.0).connect()


async def test_waits_between_tries_count_and_the_last_failure_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    client = CameraClient("127.0.0.1", port, timeout=1.0, max_retries=50, retry_delay=20.0)
    async with asyncio.timeout(LONG):
        with pytest.raises(TimeoutError, match=r"within 1 s; the last try: .*refused"):
            await client.connect()


async def test_hanging_token_provider_ends_at_timeout() -> None:
    async def provider() -> str:
        await asyncio.Event().wait()
        raise AssertionError

    async with running(Gen1()) as peer, asyncio.timeout(LONG):
        with pytest.raises(TimeoutError):
            await client_of(peer, auth_token=provider, timeout=1.0).connect()


@pytest.mark.parametrize("hangs", [False, True])
@pytest.mark.parametrize("kind", [Gen1, Gen2])
async def test_failing_token_provider_takes_no_longer_than_the_call(
    kind: type[Gen1] | type[Gen2], hangs: bool
) -> None:
    given = iter([TOKEN])

    async def provider() -> str:
        token = next(given, None)
        if token is not None:
            return token
        if hangs:
            await asyncio.Event().wait()
        raise RuntimeError("password hunter2")

    async with running(kind()) as peer, connected(peer, auth_token=provider) as client:
        peer.expire(TOKEN)
        async with asyncio.timeout(LONG):
            with pytest.raises(TimeoutError if hangs else ConnectionError) as raised:
                await client.call("get_camera_list", timeout=1.0 if hangs else 60.0)
        assert "hunter2" not in str(raised.value)
        assert (
            client.state is ConnectionState.READY
        )  # the connection is not given up for a token that is not there
        assert peer.accepted == 1


async def test_provider_is_called_again_for_a_stop_after_a_refusal() -> None:
    tokens = [TOKEN]

    async def provider() -> str:
        return tokens[-1]

    async with running(Gen1()) as peer, connected(peer, auth_token=provider) as client:
        peer.expire(TOKEN)
        peer.drop()
        await eventually(lambda: client.state is ConnectionState.REFUSED)
        tokens.append("new")
        peer.valid.add("new")
        await client.wait_until_connected(timeout=LONG)
        assert (await client.stop_recording("/dev/video0")).filename == "a.mp4"


@pytest.mark.parametrize("kind", [Gen1, Gen2])
async def test_expired_token_error_names_cause_and_remedy(kind: type[Gen1] | type[Gen2]) -> None:
    token = web_token(iat=unix_now() - 100, exp=unix_now() - 3)
    peer = kind()
    peer.valid.add(token)
    async with running(peer), connected(peer, auth_token=token) as client:
        peer.expire(token)
        with pytest.raises(AuthenticationError, match=r"expired \d+ s ago: .*set_credentials\(\)") as raised:
            await client.get_camera_list()
        assert token not in str(raised.value)
        assert not raised.value.may_pass


def _early(peer: Peer, token: str, refusals: int) -> None:
    """Refuse a token some times, as a service does whose clock is behind."""
    accept = peer.answers["authenticate"]
    peer.valid.add(token)
    left = refusals

    def answer(visitor: Visitor, request: Request) -> Any:
        nonlocal left
        if isinstance(peer, Gen2) and len(request["params"]) > 1:
            return error(-32602, "Invalid params")
        if left > 0:
            left -= 1
            words: Words = '"result": {"authenticated": false, "error": "Invalid or expired JWT token"}'
            return words if isinstance(peer, Gen1) else error(-32001, "auth_failed")
        return accept(visitor, request)

    peer.answers["authenticate"] = answer


@pytest.mark.parametrize("claim", ["iat", "nbf"])
@pytest.mark.parametrize("kind", [Gen1, Gen2])
async def test_slightly_early_token_is_retried(kind: type[Peer], claim: str) -> None:
    token = web_token(**{claim: unix_now() + 20, "exp": unix_now() + 3600})
    peer = kind()
    _early(peer, token, 6)
    async with running(peer), connected(peer, auth_token=token, max_retries=1, timeout=20.0) as client:
        assert await client.get_camera_list()


async def test_token_that_stays_early_names_clocks() -> None:
    token = web_token(iat=unix_now() + 30)
    async with running(Gen1()) as peer:
        async with asyncio.timeout(LONG):
            with pytest.raises(AuthenticationError, match="clock") as raised:
                await client_of(peer, auth_token=token, timeout=1.0).connect()
        assert raised.value.may_pass
        assert token not in str(raised.value)


async def test_early_renewed_token_is_retried_within_the_call() -> None:
    renewed = web_token(iat=unix_now() + 20)
    tokens = iter([TOKEN, renewed])

    async def provider() -> str:
        return next(tokens, renewed)

    async with running(Gen2()) as peer, connected(peer, auth_token=provider, timeout=20.0) as client:
        peer.expire(TOKEN)
        _early(peer, renewed, 2)
        assert await client.get_camera_list()


async def test_early_token_after_loss_does_not_end_retries() -> None:
    first, later = TOKEN, web_token(iat=unix_now() + 20)
    tokens = iter([first])

    async def provider() -> str:
        return next(tokens, later)

    async with running(Gen1()) as peer, connected(peer, auth_token=provider) as client:
        _early(peer, later, 3)
        peer.drop()
        await eventually(lambda: client.state is not ConnectionState.READY)
        await client.wait_until_connected(timeout=20.0)
        assert await client.get_camera_list()


@pytest.mark.parametrize(
    "text", ["", "a.b.c", "key", "a..c", "e30.e30.e30", "x." + "A" * 20_000 + ".y", "\ud800.W10.z"]
)
def test_text_that_is_not_a_token_has_no_times(text: str) -> None:
    assert token_times(text) == token_times("")
    assert not may_be_early(text, "token not yet valid")


def test_token_times_ignore_claims_that_are_not_numbers() -> None:
    assert token_times(web_token(iat=5, nbf="7", exp=True)).begins == 5
    assert token_times(web_token(iat=5, nbf=7.5, exp=9)).begins == 7.5
    assert token_times(web_token(iat=10**400, exp=float("nan"))) == token_times("")


def test_early_token_is_retried_for_ten_or_sixty_seconds() -> None:
    token = web_token(iat=1000.0, exp=2000.0)
    assert may_be_early(token, "invalid", now=1005.0)
    assert not may_be_early(token, "invalid", now=1011.0)
    assert may_be_early(token, "The token is not yet valid (iat)", now=1050.0)
    assert not may_be_early(token, "The token is not yet valid (iat)", now=1061.0)
    assert not may_be_early(web_token(iat=1000.0, exp=1001.0), "", now=1005.0)
    assert "expired 5 s ago" in advice(token, "", provided=False, now=2005.0)
    assert "provider has to give a new one" in advice(token, "", provided=True, now=2005.0)


async def test_failing_provider_is_named_after_the_first_connection_failed() -> None:
    asked = 0

    async def fails() -> str:
        nonlocal asked
        asked += 1
        raise RuntimeError("the password is hunter2")

    async with running(Gen2()) as peer:
        client = CameraClient("127.0.0.1", peer.port, auth_token=fails, max_retries=3, retry_delay=0.01)
        with pytest.raises(ConnectionError, match="token provider failed with RuntimeError") as told:
            await client.connect()
    assert 1 <= asked <= 3
    assert "hunter2" not in str(told.value)
