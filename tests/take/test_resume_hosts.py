"""Which hosts a resumed take shows credentials to: those that a person names, and no others."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest
from aiohttp import WSMsgType, web

from asynccam.errors import ConnectionError, UsageError
from asynccam.model.address import Address
from asynccam.model.camera import Camera
from asynccam.model.credentials import CREDENTIALS_LOG, Credentials, is_loopback
from asynccam.model.events import Event
from asynccam.model.manifest import CameraRecord, Manifest, Moment
from asynccam.runtime.event_hub import EventHub
from asynccam.session import Session
from asynccam.session.shared import SessionContext, SharedResources
from asynccam.take import TakeLimits, resume_take
from asynccam.take.resume import KnownHosts
from tests.support.command import asynccam

ELSEWHERE = "127.0.0.2"
GIVEN, OURS, KEY, FLEETS = "given-token", "variable-token", "variable-key", "fleet-token"
VARIABLES = {
    "ASYNCCAM_TOKEN": GIVEN,
    "MEDIAMTX_AUTH_TOKEN": OURS,
    "MEDIAMTX_API_KEY": KEY,
    "MEDIAMTX_AUTH_TYPE": "auto",
}


@asynccontextmanager
async def recording_server() -> AsyncIterator[tuple[int, list[str]]]:
    """A server of another host that notes every header and message, and refuses everything."""
    heard: list[str] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        heard.append(f"{request.method} {request.path_qs} {dict(request.headers)}")
        if request.headers.get("Upgrade", "").lower() != "websocket":
            heard.append((await request.read()).decode(errors="replace"))
            return web.Response(status=401, text="no")
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            if message.type is not WSMsgType.TEXT:
                break
            heard.append(message.data)
            refusal = {"code": -32001, "message": "authentication required"}
            asked = json.loads(message.data)
            await socket.send_str(json.dumps({"jsonrpc": "2.0", "id": asked.get("id"), "error": refusal}))
        return socket

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, ELSEWHERE, 0)
    await site.start()
    try:
        yield runner.addresses[0][1], heard
    finally:
        await runner.cleanup()


def write_take(directory: Path, address: str) -> Path:
    """A take of a process that died while a camera recorded."""
    now = Moment.of(1_700_000_000.0)
    system = address.partition(":")[0]
    record = CameraRecord(
        id=f"{system}://somewhere/x",
        name="x",
        system=system,
        address=address,
        directory="x",
        features=["record", "files"],
        commanded_at=now,
    )
    manifest = Manifest(take="t", phase="recording", created_at=now, written_at=now, cameras=[record])
    (directory / "x").mkdir(parents=True)
    (directory / "manifest.json").write_bytes(manifest.to_bytes())
    return directory


def secrets_in(heard: list[str]) -> set[str]:
    return {secret for secret in (GIVEN, OURS, KEY, FLEETS) if any(secret in one for one in heard)}


@pytest.mark.parametrize("system", ["mediamtx", "snapshot"])
@pytest.mark.parametrize("named", ["", "127.0.0.1", "127.0.0.2:1", "host", "port", "fleet"])
async def test_resume_command_sends_credentials_to_named_hosts_only(
    tmp_path: Path, system: str, named: str
) -> None:
    async with recording_server() as (port, heard):
        take = write_take(tmp_path / "take", f"{system}://{ELSEWHERE}:{port}/x")
        options: list[object] = ["--host", named] if named else []
        if named == "host":
            options = ["--host", "other", "--host", ELSEWHERE]
        elif named == "port":
            options = ["--host", f"{ELSEWHERE}:{port}"]
        elif named == "fleet":
            fleet = tmp_path / "fleet.toml"
            fleet.write_text(
                f'[[camera]]\naddress = "{system}://{ELSEWHERE}:{port}/"\ntoken_env = "FLEETS"\n'
            )
            options = ["--fleet", fleet]
        env = VARIABLES | {"FLEETS": FLEETS}
        ended = await asynccam("resume", take, *options, "--json", env=env, timeout=120)
    assert heard
    assert ended.code == 8
    (camera,) = (await Manifest.load(take)).cameras
    words = " ".join(error.message for error in camera.errors)
    if named in ("host", "port", "fleet"):
        assert secrets_in(heard) == {FLEETS if named == "fleet" else GIVEN}
        assert ended.err == ""
        assert "--host" not in words
    else:
        assert secrets_in(heard) == set()
        assert f"--host {ELSEWHERE}:{port}" in ended.err
        assert f"--host {ELSEWHERE}:{port}" in words


async def test_resume_take_sends_credentials_to_named_hosts_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    limits = TakeLimits(arm_timeout=10.0, status_timeout=1.0)
    async with recording_server() as (port, heard):
        cases: list[tuple[Any, set[str]]] = [
            ((), set()),
            ({"else": None}, set()),
            ([ELSEWHERE], {GIVEN}),
            ({f"{ELSEWHERE}:{port}": Credentials(FLEETS)}, {FLEETS}),
        ]
        for number, (hosts, expected) in enumerate(cases):
            take = write_take(tmp_path / f"{number}", f"mediamtx://{ELSEWHERE}:{port}/x")
            heard.clear()
            async with Session() as session:
                await resume_take(take, session, credentials=Credentials(GIVEN), hosts=hosts, limits=limits)
            assert heard
            assert secrets_in(heard) == expected
        take = write_take(tmp_path / "place", f"mediamtx://{ELSEWHERE}:{port}/x")
        heard.clear()
        async with Session() as session:
            place = Address("mediamtx", ELSEWHERE, port, "other")
            await session.add_address(place)
            await asyncio.wait_for(resume_take(take, session, limits=limits), 60)
        assert OURS in secrets_in(heard)


def test_names_of_hosts() -> None:
    given = Credentials(GIVEN)
    address = Address("mediamtx", "cam.lan", 8002)
    for name in ("cam.lan", "CAM.lan", "cam.lan:8002"):
        assert KnownHosts([name], given, None).credentials_for(address) is given
    for name in ("cam", "cam.lan.evil", "cam.lan:8003", "lan"):
        assert KnownHosts([name], given, None).credentials_for(address) == Credentials(environment=False)
    six = Address("mediamtx", "fe80::1", 8002)
    for name in ("fe80::1", "[fe80::1]", "[fe80::1]:8002"):
        assert KnownHosts(name, given, None).credentials_for(six) is given
    for name in ("", "http://cam.lan", "user@cam.lan", "cam.lan:0", "cam.lan:x", "cam.lan/x", "[fe80::1"):
        with pytest.raises(UsageError):
            KnownHosts([name], given, None)


@pytest.mark.parametrize(
    ("host", "certain"),
    [
        ("localhost", True),
        ("cam.localhost.", True),
        ("127.3.2.1", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("localhost.example", False),
        ("192.0.2.1", False),
        ("fe80::1%eth0", False),
        ("127.0.0.1.example", False),
        ("0.0.0.0", False),
        ("::", False),
        ("x", False),
    ],
)
def test_is_loopback(host: str, certain: bool) -> None:
    assert is_loopback(host) is certain


@pytest.mark.parametrize(
    ("address", "credentials", "warned"),
    [
        ("mediamtx://192.0.2.1:8002/x", Credentials("t"), True),
        ("mediamtx://192.0.2.1:8002/x", Credentials(api_key="k"), True),
        ("mediamtx://192.0.2.1:8002/x", Credentials(), True),
        ("mediamtx://192.0.2.1:8002/x", Credentials(environment=False), False),
        ("mediamtxs://192.0.2.1:8002/x", Credentials("t"), False),
        ("mediamtx://127.0.0.1:8002/x", Credentials("t"), False),
        ("snapshot://cam.lan/x", Credentials("t"), True),
        ("snapshot://cam.lan/x", Credentials(), False),
    ],
)
async def test_token_in_clear_to_another_machine_is_logged_once(
    address: str,
    credentials: Credentials,
    warned: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("MEDIAMTX_AUTH_TOKEN", OURS)
    context = SessionContext(credentials, EventHub("x"), SharedResources(None, None, None), None)
    variables = ["MEDIAMTX_AUTH_TOKEN"] if address.startswith("mediamtx") else []
    with caplog.at_level(logging.WARNING, CREDENTIALS_LOG):
        for camera in "xy":
            context.warn_unencrypted(Address.parse(address).with_camera(camera), *variables)
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == warned
    assert not any(secret in words for words in told for secret in (OURS, "token=t"))


class _QuietConnector:
    """A session that notes which cameras are not to be polled, and reaches none."""

    cameras: ClassVar[Mapping[str, Camera]] = {}

    def __init__(self) -> None:
        self.paused: list[str] = []
        self.connected_while: list[list[str]] = []

    async def connect(self, address: str, *, credentials: Credentials | None = None) -> Camera:
        self.connected_while.append(list(self.paused))
        raise ConnectionError("no camera in this test")

    def emit(self, event: Event) -> None:
        pass

    @contextmanager
    def pause_polling(self, cameras: Collection[str]) -> Iterator[None]:
        self.paused.extend(cameras)
        yield
        self.paused.clear()


async def test_resume_take_pauses_the_polls_of_its_cameras(tmp_path: Path) -> None:
    session = _QuietConnector()
    take = write_take(tmp_path, "multicam://127.0.0.1:9")
    await resume_take(take, session, limits=TakeLimits(arm_timeout=0.2, stop_timeout=0.2, cancel_timeout=5.0))
    assert session.connected_while
    assert all(paused == ["multicam://somewhere/x"] for paused in session.connected_while)
    assert session.paused == []
