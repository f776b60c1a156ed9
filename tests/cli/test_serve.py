"""``asynccam serve multicam``: a device from the shell."""

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import asynccam, started

LOOPBACK = ("--host", "127.0.0.1", "--port", 0, "--interface", "127.0.0.1")


async def listening(process: asyncio.subprocess.Process) -> dict[str, Any]:
    assert process.stdout is not None
    line = json.loads(await asyncio.wait_for(process.stdout.readline(), 20))
    assert line["event"] == "listening"
    return dict(line)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
async def test_serve_multicam_reports_start_and_stop(
    number: signal.Signals, code: int, tmp_path: Path
) -> None:
    line = ("serve", "multicam", *LOOPBACK, "--directory", tmp_path, "--device-id", "bench-1")
    async with started(*line, "--no-announce", "--dialect", 1, "--json") as process:
        said = await listening(process)
        assert said == {
            "event": "listening",
            "system": "multicam",
            "device_id": "bench-1",
            "host": "127.0.0.1",
            "port": said["port"],
            "directory": str(tmp_path),
            "announced": False,
        }
        status = await asynccam("status", f"multicam://127.0.0.1:{said['port']}", "--json")
        assert status.json()["camera"]["serial"] == "bench-1"
        process.send_signal(number)
        out, err = await asyncio.wait_for(process.communicate(), 20)
    assert (process.returncode, err) == (code, b"")
    assert [json.loads(line) for line in out.splitlines()] == [{"event": "stopped"}]


async def test_serve_multicam_ends_when_stdin_closes(tmp_path: Path) -> None:
    line = ("serve", "multicam", *LOOPBACK, "--directory", tmp_path, "--device-id", f"found-{tmp_path.name}")
    async with started(*line, "--while-stdin-open", "--json") as process:
        said = await listening(process)
        ended = await asynccam("discover", "--interface", "127.0.0.1", "--timeout", 2, "--json")
        (found,) = [one for one in ended.json()["cameras"] if one["serial"] == said["device_id"]]
        assert found["address"] == f"multicam://127.0.0.1:{said['port']}"
        assert process.stdin is not None
        process.stdin.close()
        await asyncio.wait_for(process.wait(), 20)
    assert process.returncode == 0


async def test_serve_multicam_port_in_use_exits_3(tmp_path: Path) -> None:
    taken = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    async with taken:
        port = taken.sockets[0].getsockname()[1]
        ended = await asynccam(
            *("serve", "multicam", "--host", "127.0.0.1", "--port", port, "--directory", tmp_path),
            *("--no-announce", "--json"),
        )
    assert ended.code == 3
    assert ended.err.startswith("asynccam: serve multicam: cannot listen")
    assert ended.err.count("\n") == 1


async def test_serve_multicam_prints_its_address(tmp_path: Path) -> None:
    line = ("serve", "multicam", *LOOPBACK, "--directory", tmp_path, "--no-announce", "--while-stdin-open")
    async with started(*line) as process:
        assert process.stdout is not None
        said = await asyncio.wait_for(process.stdout.readline(), 20)
        out, err = await asyncio.wait_for(process.communicate(b""), 20)
    assert b"listens at 127.0.0.1:" in said
    assert b"Ctrl-C" in out
    assert (process.returncode, err) == (0, b"")
