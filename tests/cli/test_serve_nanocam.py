"""``asynccam serve nanocam``: a media server from the shell."""

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from asynccam.errors import AuthenticationError
from asynccam.systems.nanocam.client import MediaClient
from tests.support.command import asynccam, started

LOOPBACK = ("serve", "nanocam", "--host", "127.0.0.1", "--port", 0)


async def listening(process: asyncio.subprocess.Process) -> dict[str, Any]:
    assert process.stdout is not None
    line = json.loads(await asyncio.wait_for(process.stdout.readline(), 30))
    assert line["event"] == "listening"
    return dict(line)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
async def test_serve_nanocam_serves_pictures(number: signal.Signals, code: int, tmp_path: Path) -> None:
    async with started(*LOOPBACK, "--json", "--keep", tmp_path / "kept") as process:
        said = await listening(process)
        assert said == {
            "event": "listening",
            "system": "nanocam",
            "host": "127.0.0.1",
            "port": said["port"],
            "stand_in": said["stand_in"],
            "token": False,
        }
        assert "test picture" in said["stand_in"]
        async with MediaClient("127.0.0.1", said["port"], media_path=tmp_path / "here") as client:
            files, _ = await client.image_request(1, 1, 64, 48)
        with Image.open(files[0]) as picture:
            picture.load()
            assert picture.size == (64, 48)
        assert len(list((tmp_path / "kept").iterdir())) == 1
        process.send_signal(number)
        out, err = await asyncio.wait_for(process.communicate(), 30)
    assert (process.returncode, err) == (code, b"")
    assert [json.loads(line) for line in out.splitlines()] == [{"event": "stopped"}]


async def test_serve_nanocam_token_from_environment(tmp_path: Path) -> None:
    secret = {"ASYNCCAM_TOKEN": "secret-word"}
    async with started(*LOOPBACK, "--json", "--while-stdin-open", env=secret) as process:
        said = await listening(process)
        assert said["token"] is True
        async with MediaClient("127.0.0.1", said["port"], media_path=tmp_path) as client:
            with pytest.raises(AuthenticationError):
                await client.image_request(1, 1, 64, 48)
        async with MediaClient(
            "127.0.0.1",
            said["port"],
            media_path=tmp_path,
            token="secret-word",
        ) as client:
            files, _ = await client.image_request(1, 1, 64, 48)
            assert len(files) == 1
        out, err = await asyncio.wait_for(process.communicate(b""), 30)
    assert process.returncode == 0
    assert b"secret" not in out + err


async def test_serve_nanocam_port_in_use_exits_3() -> None:
    taken = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    async with taken:
        port = taken.sockets[0].getsockname()[1]
        ended = await asynccam("serve", "nanocam", "--host", "127.0.0.1", "--port", port, "--json")
    assert ended.code == 3
    assert ended.err.startswith("asynccam: serve nanocam: cannot listen")
    assert ended.err.count("\n") == 1


async def test_serve_nanocam_prints_its_address() -> None:
    async with started(*LOOPBACK, "--while-stdin-open") as process:
        assert process.stdout is not None
        said = await asyncio.wait_for(process.stdout.readline(), 30)
        out, err = await asyncio.wait_for(process.communicate(b""), 30)
    assert b"listens at 127.0.0.1:" in said
    assert b"test picture" in out
    assert b"Ctrl-C" in out
    assert (process.returncode, err) == (0, b"")


async def test_serve_nanocam_works_with_status_and_record(tmp_path: Path) -> None:
    async with started(*LOOPBACK, "--json", "--while-stdin-open") as process:
        address = f"nanocam://127.0.0.1:{(await listening(process))['port']}"
        status = await asynccam("status", address, "--json")
        assert status.code == 0, status
        assert status.json()["camera"]["id"] == address
        await asyncio.wait_for(process.communicate(b""), 30)
    assert process.returncode == 0
