"""The examples of the quickstart run, and the page shows them unchanged."""

import asyncio
import importlib.util
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType

import pytest
import pytest_asyncio

from asynccam.systems.multicam.device.device import MultiCamDevice
from tests.support.multicam_device import running

ROOT = Path(__file__).parents[2]
ELSEWHERE = {"bot", "home_service", "lab", "supervisor", "web_app"}
"""Run by test_recipes.py, and shown in docs/recipes.md."""
EVERY = sorted((ROOT / "examples").glob("*.py"))
EXAMPLES = [path for path in EVERY if path.stem not in ELSEWHERE]


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", ROOT / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest_asyncio.fixture
async def device(tmp_path: Path) -> AsyncIterator[MultiCamDevice]:
    async with running(tmp_path / "device") as device:
        yield device


def uri(device: MultiCamDevice) -> str:
    return f"multicam://127.0.0.1:{device.port}"


async def test_take(device: MultiCamDevice, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    take = await example("take").main([uri(device)], tmp_path / "takes", 0.2)
    assert take.ok
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("bench-1: bench-1/")
    assert said[0].endswith(", 15 bytes")
    assert said[1] == f"complete: {take.directory / 'manifest.json'}"


async def test_events(device: MultiCamDevice, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert await example("events").main(uri(device), tmp_path / "takes", 0.2)
    said = capsys.readouterr().out
    for words in ("CameraFound", "ClockMeasured", "-- recording", "15 of 15 bytes", "downloaded, SHA-256"):
        assert words in said


async def test_discover(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, ROOT / "examples/discover.py", "127.0.0.1", stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        name = f"example-{tmp_path.name}"
        async with asyncio.timeout(30):
            async with running(tmp_path, device_id=name, announce=True, interfaces=["127.0.0.1"]) as device:
                await _line(process.stdout, f"multicam://{name} is at {uri(device)}")
            await _line(process.stdout, f"multicam://{name} is lost")
            process.send_signal(signal.SIGINT)
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def _line(stream: asyncio.StreamReader, wanted: str) -> None:
    """Read up to a line; lines of other devices on this computer may come before it."""
    while (line := (await stream.readline()).decode().rstrip()) != wanted:
        assert line, f"the example ended without {wanted!r}"


def test_every_example_is_run_here() -> None:
    tested = {name.removeprefix("test_") for name in globals() if name.startswith("test_")} | ELSEWHERE
    assert {path.stem for path in EVERY} <= tested


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_page_shows_the_example_as_it_is(path: Path) -> None:
    text = path.read_text()
    code = text[text.index("import asyncio") :].strip()
    assert code in (ROOT / "docs/getting-started.md").read_text()
