"""The examples of docs/multicam.md run, against peers on loopback in place of the devices they name."""

import ast
import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from asynccam.systems.multicam import MultiCamCamera, MultiCamClient
from tests.systems.multicam.peers import Android, Peer

PAGE = (Path(__file__).parents[3] / "docs" / "multicam.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def block(word: str, *replacements: tuple[str, str]) -> str:
    (found,) = [one for one in BLOCKS if word in one]
    for old, new in replacements:
        assert old in found
        found = found.replace(old, new)
    return str(found)


async def run(source: str, **names: Any) -> dict[str, Any]:
    code = compile(source, "docs/multicam.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    coroutine = eval(code, names)
    if coroutine is not None:
        await coroutine
    return names


def test_every_example_is_covered() -> None:
    assert len(BLOCKS) == 5


async def test_discover() -> None:
    await run(block("import discover", ("timeout=5", 'timeout=0.1, interfaces=["127.0.0.1"]')))


async def test_follow() -> None:
    on_loopback = 'MultiCamDiscovery(interfaces=["127.0.0.1"])'
    source = block("MultiCamDiscovery()", ("MultiCamDiscovery()", on_loopback))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await run(source)


async def test_connect() -> None:
    async with Peer(Android().talk) as peer:
        names = await run(block("connect(", ("192.168.1.20:8080", f"127.0.0.1:{peer.port}")))
    assert isinstance(names["camera"], MultiCamCamera)


async def test_client(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with Peer(Android().talk) as peer:
        await run(block("start_recording()", ('"192.168.1.20"', f'"127.0.0.1", {peer.port}')))
    assert capsys.readouterr().out.startswith("recordings/video_1729000000.mp4 4000 ")


async def test_starting_together() -> None:
    devices = [Android() for _ in range(3)]
    peers = [Peer(device.talk) for device in devices]
    async with peers[0], peers[1], peers[2]:
        clients = [MultiCamClient("127.0.0.1", peer.port) for peer in peers]
        names = await run(block("release(None)"), clients=clients)
    assert [answer.status for answer in names["answers"]] == ["scheduled_recording_accepted"] * 3
    assert all(device.recording for device in devices)
