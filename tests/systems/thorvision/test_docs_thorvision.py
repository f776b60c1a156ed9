"""The examples of docs/thorvision.md run, against a simulated server in place of the one they name."""

import ast
import asyncio
import re
import struct
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from asynccam.systems.thorvision import (
    ThorVisionCamera,
    ThorVisionClient,
    ThorVisionSimulator,
    simulated_camera,
)
from tests.support.waiting import eventually
from tests.systems.thorvision.rig import QUICK

PAGE = (Path(__file__).parents[3] / "docs" / "thorvision.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
async def simulator() -> AsyncIterator[ThorVisionSimulator]:
    camera = simulated_camera(0, device_id="usb-1", width=160, height=64)
    async with ThorVisionSimulator([camera]) as server:
        yield server


async def run(
    word: str, simulator: ThorVisionSimulator, *replacements: tuple[str, str], **names: Any
) -> None:
    (source,) = [block for block in BLOCKS if word in block]
    for old, new in (*replacements, ('"192.168.177.100"', f'"127.0.0.1", {simulator.port}, settings=QUICK')):
        source = source.replace(old, new)
    assert "192.168" not in source
    code = compile(source, "docs/thorvision.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    await eval(code, {"asyncio": asyncio, "QUICK": QUICK, "ThorVisionClient": ThorVisionClient, **names})


def test_every_example_is_run() -> None:
    assert len(BLOCKS) == 6


async def test_recording(
    simulator: ThorVisionSimulator,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    await run("start_stream_with_recording", simulator, ("sleep(10)", "sleep(0.3)"))
    first, second = capsys.readouterr().out.splitlines()
    assert re.match(r"0_Simulated_camera_0_\d{8}_\d{6}-%02d\.mkv \d+\.\d+", first)
    assert re.match(r"0_Simulated_camera_0_\d{8}_\d{6}-00\.mkv complete \d+ \d", second)


async def test_hot_plug(simulator: ThorVisionSimulator, capsys: pytest.CaptureFixture[str]) -> None:
    running = asyncio.create_task(run("client.watch()", simulator))
    told = ""

    def printed(word: str) -> bool:
        nonlocal told
        told += capsys.readouterr().out
        return word in told

    await eventually(lambda: printed("CameraAdded"))
    await simulator.unplug(0)
    await eventually(lambda: printed("CameraRemoved"))
    running.cancel()
    await asyncio.wait({running})
    address = simulator.address
    assert told.splitlines() == [f"CameraAdded {address}/usb-1", f"CameraRemoved {address}/usb-1"]


async def test_camera(
    simulator: ThorVisionSimulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = ('192.168.177.100:8000/usb-1"', f'127.0.0.1:{simulator.port}/usb-1", make_client=make')
    make = partial(ThorVisionClient, settings=QUICK)
    await run("ThorVisionCamera.connect", simulator, place, directory=tmp_path, make=make)
    urls, first_frame, files = capsys.readouterr().out.splitlines()
    assert "srt://127.0.0.1:9" in urls
    assert float(first_frame) > 0
    assert str(tmp_path) in files
    assert ThorVisionCamera.__name__ in PAGE


async def test_metadata(
    simulator: ThorVisionSimulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "camera.bin"
    path.write_bytes(
        b"".join(struct.pack("<QQIIIIQ", 0, 7 * number, number, 1, 0, 0, 0) for number in range(3))
    )
    await run("read_metadata", simulator, path=path, neural_timestamps=[0, 1, 2])
    assert capsys.readouterr().out.splitlines() == ["3 frames, 0 without metadata ", "[0 1 2] [1 1 1]", "14"]


async def test_versions_and_logs(simulator: ThorVisionSimulator, capsys: pytest.CaptureFixture[str]) -> None:
    await run("client.versions()", simulator)
    assert "api='1.0.0' server='1.0.0'" in capsys.readouterr().out


async def test_simulator(simulator: ThorVisionSimulator, capsys: pytest.CaptureFixture[str]) -> None:
    await run("simulator.unplug", simulator)
    assert "capability='image/jpeg,width=320,height=240,framerate=30/1'" in capsys.readouterr().out
