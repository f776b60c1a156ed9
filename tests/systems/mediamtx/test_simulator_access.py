"""Sign-in of both generations, the sign-in fault, roles and rate limits of the simulated service."""

import asyncio
import json
import time
from pathlib import Path

import jwt
import pytest

from asynccam.systems.mediamtx.simulator.access import Access, BadCredentialError
from asynccam.systems.mediamtx.simulator.simulator import MediaMTXSimulator
from tests.support.mediamtx_service import SECRET, simulator, talker, token
from tests.support.set_clock import SetClock

both = pytest.mark.parametrize("generation", [1, 2])


@both
async def test_only_ping_of_generation_2_works_without_sign_in(generation: int) -> None:
    async with simulator(generation, clip=None) as service, talker(service, None) as one:
        error = await one.refused("get_camera_list")
        assert error["code"] == -32001
        assert error["data"] == {"reason": "not_authenticated"}
        if generation == 2:
            assert await one.ask("ping") == "pong"
        else:
            assert await one.code("ping") == -32001
        assert await one.code("no_such_method") == -32601


@both
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (token(lifetime=-5.0), "token_expired"),
        (token(secret="another secret, which also has thirty-two bytes"), "invalid_token"),
        (token("guest"), "invalid_role"),
        (token("admin").rpartition(".")[0] + ".", "invalid_token"),
        (jwt.encode({"role": "admin", "exp": time.time() + 99}, "", algorithm="none"), "invalid_token"),
        (jwt.encode({"role": "admin"}, SECRET, algorithm="HS256"), "invalid_token"),
        ("nonsense", "invalid_token"),
        ("", "missing_token"),
        (17, "missing_token"),
        (None, "missing_token"),
    ],
    ids=["expired", "forged", "guest", "cut", "unsigned", "endless", "words", "empty", "number", "none"],
)
async def test_bad_token_is_refused_as_each_generation_does(
    generation: int, text: object, reason: str
) -> None:
    async with simulator(generation, clip=None) as service, talker(service, None) as one:
        answer = await one.answer_to(await one.send("authenticate", auth_token=text))
        if generation == 1:
            assert answer["result"] == {"authenticated": False, "error": f"Authentication failed: {reason}"}
        else:
            assert answer["error"]["code"] == -32001
            assert answer["error"]["data"] == {"reason": reason}
        assert await one.code("get_camera_list") == -32001


@both
async def test_tokens_and_keys_sign_in(generation: int) -> None:
    async with simulator(generation, clip=None) as service:
        async with talker(service, None) as one:
            welcome = await one.ask("authenticate", auth_token=service.token("operator"))
            assert welcome["role"] == "operator"
            assert "expires_at" in welcome
            assert ("permissions" in welcome) is (generation == 2)
        async with talker(service, None) as one:
            welcome = await one.ask("authenticate", auth_token="viewer-key", auth_type="api_key")
            assert welcome["role"] == "viewer"
            assert (await one.ask("get_camera_list"))["total"] == 2
        async with talker(service, None) as one:
            wrong_kind = await one.send("authenticate", auth_token="viewer-key", auth_type="jwt")
            assert "viewer-key" not in json.dumps(await one.answer_to(wrong_kind))
            assert await one.code("get_camera_list") == -32001


async def test_generation_1_signs_in_the_most_recent_client_whoever_asked() -> None:
    async with (
        simulator(1, clip=None) as service,
        talker(service, None) as early,
        talker(service, None) as late,
    ):
        assert (await early.ask("authenticate", auth_token=token()))["authenticated"] is True
        assert await early.code("get_camera_list") == -32001
        assert (await late.ask("get_camera_list"))["total"] == 2
        assert (await early.ask("get_camera_list", auth_token=token("viewer")))["total"] == 2
        assert (await early.ask("get_camera_list"))["total"] == 2
        assert await early.code("take_snapshot", device="/dev/video0") == -32003


async def test_generation_2_signs_in_the_caller_and_ignores_call_tokens() -> None:
    async with (
        simulator(2, clip=None) as service,
        talker(service, None) as early,
        talker(service, None) as late,
    ):
        await early.ask("authenticate", auth_token=token())
        assert (await early.ask("get_camera_list"))["total"] == 2
        assert await late.code("get_camera_list", auth_token=token()) == -32001


async def test_older_server_reads_parameter_token() -> None:
    async with (
        simulator(1, clip=None, reads_only_token=True) as service,
        talker(service, None) as one,
    ):
        assert (await one.ask("authenticate", auth_token=token()))["authenticated"] is False
        assert (await one.ask("authenticate", auth_token=token(), token=token()))["authenticated"] is True


@pytest.mark.parametrize("name", ["token", "auth_token"])
async def test_generation_1_takes_the_token_under_either_name(name: str) -> None:
    async with simulator(1, clip=None) as service, talker(service, None) as one:
        assert (await one.ask("authenticate", **{name: token()}))["authenticated"] is True
        assert await one.ask("ping") == "pong"


async def test_generation_2_refuses_the_token_argument_of_generation_1() -> None:
    async with simulator(2, clip=None) as service, talker(service, None) as one:
        assert await one.code("authenticate", token=token()) == -32001


@both
async def test_strict_server_takes_only_auth_token(generation: int) -> None:
    async with (
        simulator(generation, clip=None, strict_sign_in=True) as service,
        talker(service, None) as one,
    ):
        assert await one.code("authenticate", auth_token=token(), token=token()) == -32602
        assert (await one.ask("authenticate", auth_token=token()))["authenticated"] is True


async def test_expired_generation_1_connection_accepts_no_new_token() -> None:
    async with simulator(1, clip=None) as service:
        async with talker(service) as one:
            service.expire_tokens()
            assert await one.code("ping") == -32001
            assert await one.code("ping", auth_token=token()) == -32001
            assert (await one.ask("authenticate", auth_token=token()))["authenticated"] is False
        async with talker(service) as one:
            assert await one.ask("ping") == "pong"


async def test_expired_generation_2_connection_accepts_a_new_token() -> None:
    async with simulator(2, clip=None) as service, talker(service) as one:
        old = token()
        service.expire_tokens()
        error = await one.refused("get_camera_list")
        assert error["data"] == {"reason": "token_expired"}
        assert (await one.refused("authenticate", auth_token=old))["data"] == {"reason": "token_expired"}
        assert (await one.ask("authenticate", auth_token=token()))["authenticated"] is True
        assert (await one.ask("get_camera_list"))["total"] == 2


@pytest.mark.parametrize("seconds", [7200.0, -7200.0])
def test_tokens_that_are_called_in_are_so_whatever_the_clock_says(
    monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    access = Access("s" * 32, {})
    old = access.token("viewer", 86_400)
    SetClock(monkeypatch).step(seconds)
    access.expire_tokens()
    with pytest.raises(BadCredentialError, match="token_expired"):
        access.check(old, "jwt")
    assert access.check(access.token("viewer", 86_400), "jwt").role == "viewer"


@both
async def test_expired_token_ends_sign_in(generation: int) -> None:
    async with simulator(generation, clip=None, rate_limit=None) as service, talker(service, None) as one:
        await one.ask("authenticate", auth_token=token(lifetime=0.4))
        while "result" in (answer := await one.answer_to(await one.send("get_camera_list"))):
            assert answer["result"]["total"] == 2
        assert answer["error"]["code"] == -32001


ROLES = {
    "viewer": ["get_camera_list", "get_streams", "list_recordings", "list_snapshots"],
    "operator": ["take_snapshot", "start_recording", "stop_recording", "delete_recording", "delete_snapshot"],
    "admin": ["get_metrics", "get_status", "get_server_info", "get_storage_info", "cleanup_old_files"],
}


@both
async def test_role_too_low_has_own_error(generation: int) -> None:
    code = {1: -32003, 2: -32002}[generation]
    async with simulator(generation, clip=None, rate_limit=None) as service:
        for place, role in enumerate(ROLES):
            async with talker(service, role) as one:
                for needed_place, (needed, methods) in enumerate(ROLES.items()):
                    for method in methods:
                        answer = await one.answer_to(await one.send(method))
                        refused = answer.get("error", {}).get("code") == code
                        assert refused is (needed_place > place), (role, method, answer)
                        if refused:
                            assert answer["error"]["data"] == {"required_role": needed, "have_role": role}


async def test_generation_1_limits_calls_without_saying_for_how_long() -> None:
    async with simulator(1, clip=None, rate_limit=3, rate_window=0.3) as service, talker(service) as one:
        for _ in range(5):
            assert await one.code("no_such_method") == -32601  # does not count
        assert await one.ask("ping") == "pong"
        assert await one.ask("ping") == "pong"
        error = await one.refused("ping")
        assert error["code"] == -32002
        assert "data" not in error
        async with talker(service) as fresh:
            assert await fresh.ask("ping") == "pong"
        async with asyncio.timeout(20):
            while "error" in await one.answer_to(await one.send("ping")):
                pass


async def test_generation_2_says_when_the_next_call_may_come() -> None:
    async with simulator(2, clip=None, rate_limit=2, rate_window=30.0) as service, talker(service) as one:
        assert await one.ask("ping") == "pong"
        error = await one.refused("ping")
        assert error["code"] == -32040
        assert 20_000 < error["data"]["retry_after_ms"] <= 30_001


async def test_without_a_secret_each_service_signs_with_its_own(tmp_path: Path) -> None:
    async with MediaMTXSimulator(directory=tmp_path) as service, talker(service, None) as one:
        foreign = MediaMTXSimulator().token()
        assert (await one.ask("authenticate", auth_token=foreign))["authenticated"] is False
        assert (await one.ask("authenticate", auth_token=service.token()))["authenticated"] is True
