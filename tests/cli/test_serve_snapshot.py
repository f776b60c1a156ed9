"""``asynccam serve snapshot``: a Snapshot server from the shell, and what is left when it is killed."""

import asyncio
import json
import os
import re
import signal
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import asynccam, started
from tests.support.v4l2 import Devices
from tests.support.waiting import eventually

TOKEN = "correct horse battery staple"


async def listening(process: asyncio.subprocess.Process) -> dict[str, Any]:
    assert process.stdout is not None
    line = json.loads(await asyncio.wait_for(process.stdout.readline(), 30))
    assert line["event"] == "listening"
    return dict(line)


async def get(url: str, token: str | None = None, timeout: float = 30) -> Any:
    """The JSON at a URL; an error status raises."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    request = urllib.request.Request(url, headers=headers)

    def ask() -> Any:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return json.load(answer)

    return await asyncio.to_thread(ask)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
async def test_serve_snapshot_reports_start_and_stop(
    number: signal.Signals, code: int, tmp_path: Path
) -> None:
    config = tmp_path / "deep" / "config.json"
    line = ("serve", "snapshot", "--config", config, "--port", 0, "--test-cameras", 2, "--json")
    async with started(*line) as process:
        said = await listening(process)
        assert said == {
            "event": "listening",
            "system": "snapshot",
            "host": "127.0.0.1",
            "port": said["port"],
            "url": f"http://127.0.0.1:{said['port']}",
            "config": str(config),
            "token": False,
        }
        cameras = await get(f"{said['url']}/api/cameras")
        assert [camera["name"] for camera in cameras] == ["test1", "test2"]
        taken = await get(f"{said['url']}/api/snapshot/test1")
        assert (config.parent / "snapshots" / taken["filename"]).stat().st_size > 1000
        process.send_signal(number)
        out, err = await asyncio.wait_for(process.communicate(), 30)
    assert (process.returncode, err) == (code, b"")
    assert [json.loads(line) for line in out.splitlines()] == [{"event": "stopped"}]
    assert [one["name"] for one in json.loads(config.read_text())["cameras"]] == ["test1", "test2"]


async def test_serve_snapshot_without_config_keeps_nothing(tmp_path: Path) -> None:
    line = ("serve", "snapshot", "--port", 0, "--test-cameras", 1, "--while-stdin-open", "--json")
    async with started(*line, env={"TMPDIR": str(tmp_path)}) as process:
        said = await listening(process)
        assert Path(said["config"]).is_file()
        assert Path(said["config"]).is_relative_to(tmp_path)
        assert process.stdin is not None
        process.stdin.close()
        await asyncio.wait_for(process.wait(), 30)
    assert process.returncode == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["file", "environment", "configuration"])
async def test_serve_snapshot_token_from_file_or_environment(place: str, tmp_path: Path) -> None:
    config, file = tmp_path / "config.json", tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    config.write_text(json.dumps({"token_file": "token"} if place == "configuration" else {}))
    line = ["serve", "snapshot", "--config", config, "--port", 0, "--json"]
    line += ["--token-file", file] if place == "file" else []
    env = {"ASYNCCAM_SNAPSHOT_TOKEN": TOKEN} if place == "environment" else {}
    async with started(*line, env=env) as process:
        said = await listening(process)
        assert said["token"] is True
        with pytest.raises(urllib.error.HTTPError) as refused:
            await get(f"{said['url']}/api/cameras")
        refused.value.close()
        assert refused.value.code == 401
        assert await get(f"{said['url']}/api/cameras", TOKEN) == []


@pytest.mark.parametrize(
    ("token", "code", "words"),
    [
        ("short", 2, "a token must have at least 16 characters"),
        ("", 2, "holds no secret"),
        (None, 6, "cannot read"),
    ],
)
async def test_serve_snapshot_invalid_token(token: str | None, code: int, words: str, tmp_path: Path) -> None:
    if token is not None:
        (tmp_path / "token").write_text(token)
    line = ("serve", "snapshot", "--config", tmp_path / "config.json", "--port", 0)
    ended = await asynccam(*line, "--token-file", tmp_path / "token")
    assert (ended.code, ended.out) == (code, "")
    assert words in ended.err
    assert ended.err.count("\n") == 1


async def test_serve_snapshot_port_in_use_exits_3(tmp_path: Path) -> None:
    taken = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    async with taken:
        port = taken.sockets[0].getsockname()[1]
        ended = await asynccam("serve", "snapshot", "--config", tmp_path / "config.json", "--port", port)
    assert ended.code == 3
    assert ended.err.startswith("asynccam: serve snapshot: cannot listen")
    assert ended.err.count("\n") == 1


async def test_serve_snapshot_second_server_is_refused(tmp_path: Path) -> None:
    devices, gate = Devices(tmp_path), tmp_path / "gate"
    sudo = Path(devices.systemctl).with_name("sudo")
    sudo.write_text('#!/bin/sh\nexec "$@"\n')
    sudo.chmod(0o755)
    env = {"PATH": f"{sudo.parent}:{os.environ['PATH']}"}
    slow = {
        "name": "slow",
        "device_path": str(devices.device("slow", gate=str(gate))),
        "type": "stream_interrupt",
        "service_name": "streamer.service",
    }
    config = tmp_path / "config.json"
    config.write_text(json.dumps([slow]))
    before = config.read_bytes()
    line = ("serve", "snapshot", "--config", config, "--port", 0, "--json")
    async with started(*line, env=env) as process:
        url = (await listening(process))["url"]
        capturing = asyncio.ensure_future(get(f"{url}/api/snapshot/slow"))
        await eventually(lambda: devices.captures, 30)
        second = await asynccam(*line, "--test-cameras", 1, env=env)
        assert (second.code, second.err.count("\n")) == (3, 1)
        assert f"another Snapshot server uses {tmp_path}" in second.err
        assert devices.calls == [("stop", "streamer.service")]
        gate.touch()
        assert (await capturing)["success"]
    assert devices.calls == [("stop", "streamer.service"), ("restart", "streamer.service")]
    assert config.read_bytes() == before


async def test_serve_snapshot_prints_address_and_warning(tmp_path: Path) -> None:
    line = ("serve", "snapshot", "--config", tmp_path / "config.json", "--port", 0, "--while-stdin-open")
    async with started(*line) as process:
        assert process.stdout is not None
        said = await asyncio.wait_for(process.stdout.readline(), 30)
        out, err = await asyncio.wait_for(process.communicate(b""), 30)
    assert re.search(rb"listens at http://127\.0\.0\.1:\d+", said)
    assert b"Ctrl-C" in out
    assert b"Anyone who reaches" not in out
    assert (process.returncode, err) == (0, b"")


async def test_serve_snapshot_killed_while_capturing(tmp_path: Path) -> None:
    """SIGKILL while services are stopped and 500 requests are on their way; then the next start."""
    devices, gate = Devices(tmp_path), tmp_path / "gate"
    bin_directory = Path(devices.systemctl).parent
    sudo = bin_directory / "sudo"
    sudo.write_text('#!/bin/sh\nexec "$@"\n')
    sudo.chmod(0o755)
    env = {"PATH": f"{bin_directory}:{os.environ['PATH']}"}
    cameras = [
        {"name": "quick", "device_path": str(devices.device("quick"))},
        {
            "name": "slow",
            "device_path": str(devices.device("slow", gate=str(gate))),
            "type": "stream_interrupt",
            "service_name": "streamer.service",
        },
    ]
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"cameras": cameras}))
    line = ("serve", "snapshot", "--config", config, "--port", 0, "--json")
    before = config.read_bytes()
    async with started(*line, env=env) as process:
        url = (await listening(process))["url"]
        taken = [(await get(f"{url}/api/snapshot/quick"))["filename"] for _ in range(3)]
        capturing = asyncio.ensure_future(get(f"{url}/api/snapshot/slow"))
        await eventually(lambda: len(devices.captures) == 4, 30)
        assert devices.calls == [("stop", "streamer.service")]
        assert devices.state("streamer.service") == "down"
        crowd = [await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2])) for _ in range(500)]
        for _, writer in crowd:
            writer.write(b"GET /api/cameras HTTP/1.1\r\nHost: localhost\r\n\r\n")
        process.kill()
        await process.wait()
        await asyncio.wait({capturing})
        assert isinstance(capturing.exception(), OSError)
        for _, writer in crowd:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for _, writer in crowd), return_exceptions=True)
    gate.touch()
    async with started(*line, env=env) as process:
        url = (await listening(process))["url"]
        await eventually(lambda: devices.state("streamer.service") == "up", 30)
        assert config.read_bytes() == before
        page = await get(f"{url}/api/v1/snapshots")
        assert [one["filename"] for one in page["items"]] == taken[::-1]
        assert [path.name for path in sorted((tmp_path / "snapshots").glob("*.jpg"))] == taken
        assert (await get(f"{url}/api/snapshot/slow"))["success"]
        process.terminate()
        await asyncio.wait_for(process.communicate(), 30)
    assert devices.state("streamer.service") == "up"
    assert process.returncode == 0
