"""Signing in to both generations, and finding out which one it is."""

import asyncio
import logging
from typing import Any

import pytest

from asynccam.net.reconnecting import ConnectionState
from asynccam.systems.mediamtx import AuthenticationError, ConnectionError
from tests.support.waiting import eventually
from tests.systems.mediamtx.clients import client_of, connected
from tests.systems.mediamtx.peer import TOKEN, Gen1, Gen2, Peer, error, running


@pytest.mark.parametrize("kind", [Gen1, Gen2])
async def test_generation_is_detected(kind: type[Peer]) -> None:
    async with running(kind()) as peer, connected(peer) as client:
        assert client.generation == kind.generation
        assert client.role == ("operator" if kind is Gen1 else "admin")
        assert [camera.name for camera in await client.get_camera_list()] == ["Camera 0"]


async def test_generation_is_detected_on_every_connection() -> None:
    old, new = Gen1(), Gen2()
    await old.start()
    async with connected(old) as client:
        await old.stop()
        new.port = old.port
        async with running(new):
            await eventually(lambda: client.state is ConnectionState.READY and new.visitors)
            assert client.generation == 2


async def test_generation_1_is_told_the_token_by_both_its_names() -> None:
    async with running(Gen1()) as peer, connected(peer, auth_token=None, api_key=TOKEN):
        assert [request["params"] for request in peer.called("authenticate")] == [
            {"auth_token": TOKEN, "token": TOKEN, "auth_type": "api_key"}
        ]


async def test_sign_in_to_generation_2_that_refuses_unknown_parameters() -> None:
    async with running(Gen2()) as peer, connected(peer):
        assert [set(request["params"]) for request in peer.called("authenticate")] == [
            {"auth_token", "token", "auth_type"},
            {"auth_token"},
        ]


@pytest.mark.parametrize("kind", [Gen1, Gen2])
async def test_wrong_credentials_are_said_at_once_and_once(kind: type[Peer]) -> None:
    async with running(kind()) as peer:
        client = client_of(peer, auth_token="wrong-secret")
        with pytest.raises(AuthenticationError) as raised:
            await client.connect()
        assert peer.accepted == 1
        assert client.state is ConnectionState.CLOSED
        assert "wrong-secret" not in f"{raised.value} {client!r}"


async def test_token_in_a_service_message_is_redacted() -> None:
    async with running(Gen1()) as peer:
        peer.answers["authenticate"] = lambda visitor, request: (
            f'"result": {{"authenticated": false, "error": "bad token {request["params"]["token"]}"}}'
        )
        with pytest.raises(AuthenticationError, match=r"bad token \*\*\*"):
            await client_of(peer, auth_token="my-secret").connect()


async def test_sign_in_with_other_failure_is_retried() -> None:
    async with running(Gen1()) as peer:
        answers = iter([error(-32603, "down"), error(-32603, "down")])
        good = peer.answers["authenticate"]
        peer.answers["authenticate"] = lambda visitor, request: next(answers, None) or good(visitor, request)
        async with connected(peer, max_retries=3):
            assert peer.accepted == 3


async def test_without_credentials_a_client_may_still_listen() -> None:
    async with running(Gen1()) as peer, connected(peer, auth_token=None) as client:
        assert client.generation == 1
        assert not peer.called("authenticate")
        with pytest.raises(AuthenticationError):
            await client.get_camera_status("/dev/video0")


@pytest.mark.parametrize("kind", [Gen1, Gen2])
async def test_without_credentials_the_generation_shows_in_who_may_ping(kind: type[Peer]) -> None:
    async with running(kind()) as peer:
        peer.answers["get_subscription_stats"] = lambda visitor, request: error(-32001)
        async with connected(peer, auth_token=None) as client:
            assert client.generation == kind.generation


async def test_sign_in_fault_of_generation_1_is_hidden_from_callers() -> None:
    async with running(Gen1()) as peer:
        peer.faulty = True
        peer.answers["get_subscription_stats"] = lambda visitor, request: error(-32601)
        early = Barrier(2)
        good = peer.answers["authenticate"]

        async def together(visitor: Any, request: Any) -> Any:
            await early.wait()
            return good(visitor, request)

        peer.answers["authenticate"] = together
        async with connected_both(peer) as clients:
            for client in clients:
                assert (await client.get_camera_list())[0].device == "/dev/video0"
                assert (await client.start_recording("/dev/video0")).filename == "a.mp4"
        refused_once = [request for request in peer.requests if "auth_token" in (request.get("params") or {})]
        assert len(refused_once) > 2, "the fault did not show"


class Barrier:
    """Lets callers go on when enough of them have come."""

    def __init__(self, count: int) -> None:
        self._missing = count
        self._open = asyncio.Event()

    async def wait(self) -> None:
        self._missing -= 1
        if self._missing <= 0:
            self._open.set()
        await self._open.wait()


class connected_both:  # noqa: N801 - reads as a call
    """Two clients that connect at the same time."""

    def __init__(self, peer: Peer) -> None:
        self._clients = (client_of(peer), client_of(peer))

    async def __aenter__(self) -> tuple[Any, ...]:
        async with asyncio.TaskGroup() as group:
            for client in self._clients:
                group.create_task(client.connect())
        return self._clients

    async def __aexit__(self, *exception: object) -> None:
        for client in self._clients:
            await client.disconnect()


async def test_refused_start_is_resent_with_the_token_and_executed_once() -> None:
    async with running(Gen1()) as peer, connected(peer) as client:
        peer.visitors[0].signed_in = False
        await client.start_recording("/dev/video0")
        assert [request["params"].get("auth_token") for request in peer.called("start_recording")] == [
            None,
            TOKEN,
        ]


async def test_generation_1_token_is_renewed_by_one_new_connection() -> None:
    tokens = iter(["first", "second", "third"])

    async def provider() -> str:
        token = next(tokens)
        peer.valid.add(token)
        return token

    async with running(Gen1()) as peer, connected(peer, auth_token=provider) as client:
        peer.expire("first")
        async with asyncio.TaskGroup() as group:
            calls = [group.create_task(client.get_camera_list()) for _ in range(20)]
            starts = [group.create_task(client.start_recording("/dev/video0")) for _ in range(5)]
        assert all(call.result() for call in calls + starts)
        assert peer.accepted == 2
        assert [request["params"]["auth_token"] for request in peer.called("authenticate")] == [
            "first",
            "second",
        ]


async def test_generation_2_token_is_renewed_on_the_same_connection() -> None:
    tokens = iter(["first", "second", "third"])

    async def provider() -> str:
        token = next(tokens)
        peer.valid.add(token)
        return token

    async with running(Gen2()) as peer, connected(peer, auth_token=provider) as client:
        peer.expire("first")
        async with asyncio.TaskGroup() as group:
            calls = [group.create_task(client.get_camera_list()) for _ in range(20)]
        assert all(call.result() for call in calls)
        assert peer.accepted == 1
        assert {request["params"]["auth_token"] for request in peer.called("authenticate")} == {
            "first",
            "second",
        }


@pytest.mark.parametrize("kind", [Gen1, Gen2])
async def test_expired_plain_token_is_an_error_until_replaced(
    kind: type[Gen1] | type[Gen2],
) -> None:
    async with running(kind()) as peer, connected(peer) as client:
        peer.expire(TOKEN)
        with pytest.raises(AuthenticationError):
            await client.get_camera_list()
        peer.valid.add("other")
        client.set_credentials(auth_token="other")
        assert await client.get_camera_list()


async def test_refused_reconnect_stops_until_new_credentials_are_set(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running(Gen1()) as peer, connected(peer) as client:
        peer.expire(TOKEN)
        peer.drop()
        await eventually(lambda: client.state is ConnectionState.REFUSED)
        accepted = peer.accepted
        with pytest.raises(AuthenticationError):
            await client.get_camera_list()
        with pytest.raises(AuthenticationError):
            await client.wait_until_connected()
        assert peer.accepted == accepted
        peer.valid.add("other")
        client.set_credentials(auth_token="other")
        await client.wait_until_connected(timeout=5)
        assert await client.get_camera_list()
    assert not [record for record in caplog.records if TOKEN in record.getMessage()]


async def test_failing_token_provider_is_retried_without_leaking_its_message(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def provider() -> str:
        raise RuntimeError("password hunter2 refused")

    caplog.set_level(logging.DEBUG)
    async with running(Gen1()) as peer:
        with pytest.raises(ConnectionError, match="RuntimeError") as raised:
            await client_of(peer, auth_token=provider, max_retries=2).connect()
        assert peer.accepted == 2
    assert "hunter2" not in str(raised.value) + caplog.text
