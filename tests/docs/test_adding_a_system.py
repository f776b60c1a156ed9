"""The toy system on the page "Adding a system" runs as printed, in a Session, a take included."""

import importlib
import json
import re
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from asynccam import Address, CameraFound, CameraState, ConnectionError, DeviceError, Session, UsageError
from asynccam.model.manifest import Outcome
from asynccam.model.systems import SYSTEMS
from asynccam.systems import System, SystemAdapter, register
from asynccam.systems import registry as adapters
from tests.support.devices import free_port

PAGE = (Path(__file__).parents[2] / "docs/adding-a-system.md").read_text()
CAMERA, ADAPTER, PROGRAM = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


class ToyDevice:
    """The device that the page describes, in memory."""

    def __init__(self, serial: str) -> None:
        self.serial = serial
        self.recording = False
        self.files: dict[str, bytes] = {}

    async def answer(self, request: web.Request) -> web.StreamResponse:
        match request.method, request.path:
            case "POST", "/start":
                self.recording = True
            case "POST", "/stop" if self.recording:
                self.recording = False
                self.files[f"{len(self.files) + 1:04}.mp4"] = self.serial.encode() * 1000
            case "POST", "/stop":
                return web.Response(status=409)
            case "GET", "/files":
                listed = [{"name": name, "size": len(data)} for name, data in self.files.items()]
                return web.json_response(listed)
            case "GET", path if path.startswith("/files/"):
                return web.Response(body=self.files[path.removeprefix("/files/")])
        return web.json_response({"serial": self.serial, "recording": self.recording})


@asynccontextmanager
async def serving(device: ToyDevice, port: int) -> AsyncIterator[None]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", device.answer)
    runner = web.AppRunner(app, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield
    finally:
        await runner.cleanup()


@pytest.fixture
def toycam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The package of the page, imported once and forgotten afterwards."""
    package = tmp_path / "src" / "toycam"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "camera.py").write_text(CAMERA)
    (package / "adapter.py").write_text(ADAPTER)
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.setitem(SYSTEMS, "toy", System("toy", 1))
    del SYSTEMS["toy"]  # setitem has made a note to remove it at the end
    importlib.import_module("toycam.adapter")
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "toycam"]:
        del sys.modules[name]
    adapters._adapters.pop("toy", None)


def test_toy_system_is_short() -> None:
    assert len((CAMERA + ADAPTER).splitlines()) < 200
    assert sum(bool(line.strip()) for line in (CAMERA + ADAPTER).splitlines()) < 150


async def test_program_of_the_page_runs(
    toycam: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    port = free_port()
    program = PROGRAM
    for printed, here in (
        ('"toy://127.0.0.1"', f'"toy://127.0.0.1:{port}", mdns=False'),
        ("duration=2", "duration=0.1, start_in=0.1"),
        ("\nasyncio.run(main())\n", ""),
    ):
        assert printed in program
        program = program.replace(printed, here)
    device = ToyDevice("A1")
    names: dict[str, object] = {}
    exec(compile(program, "adding-a-system.md", "exec"), names)
    async with serving(device, port):
        await names["main"]()  # type: ignore[operator]
    assert capsys.readouterr().out == "complete 0001.mp4\n"
    (manifest,) = tmp_path.glob("takes/*/manifest.json")
    (camera,) = json.loads(manifest.read_text())["cameras"]
    assert (camera["id"], camera["system"]) == ("toy://A1", "toy")


async def test_toy_camera_in_a_session(toycam: None, tmp_path: Path) -> None:
    device, port, other = ToyDevice("A1"), free_port(), free_port()
    async with Session(poll_interval=0.05) as session:
        async with serving(device, port):
            camera = await session.connect(f"toy://127.0.0.1:{port}")
            assert session.events.latest(CameraFound, "toy://A1") is not None
            take = await session.take([camera], duration=0.1, start_in=0.1, directory=tmp_path)
            assert take.manifest.outcome is Outcome.COMPLETE
            device.recording = True
            assert (await camera.status()).state is CameraState.RECORDING
            take = await session.take([camera], duration=0.1, start_in=0.1, directory=tmp_path)
            assert take.manifest.outcome is Outcome.FAILED
            device.recording = False
        with pytest.raises(ConnectionError):
            await camera.status()
        async with serving(device, other):  # the same camera at another address
            assert await session.connect(f"toy://127.0.0.1:{other}") is camera
            assert camera.info.address == f"toy://127.0.0.1:{other}"
            with pytest.raises(DeviceError, match="409"):
                await camera.stop()  # type: ignore[attr-defined]


async def test_toy_address_uses_its_port(toycam: None) -> None:
    assert Address.parse("toy://host") == Address("toy", "host", 9000)


@pytest.mark.parametrize(
    ("system", "words"),
    [
        (System("multicam", 1), "'multicam' is already registered"),
        (System("mediamtxs", 1), "'mediamtxs' is already registered"),
        (System("toy", 1), "'toy' is already registered"),
        (System("Toy", 1), "'Toy' is not a scheme"),
        (System("to y", 1), "'to y' is not a scheme"),
    ],
)
def test_scheme_that_is_taken_or_invalid_is_refused(toycam: None, system: System, words: str) -> None:
    class Adapter(SystemAdapter):
        async def connect(self, address: object, context: object) -> None:  # type: ignore[override]
            raise AssertionError

    with pytest.raises(UsageError, match=words):
        register(system, Adapter())
