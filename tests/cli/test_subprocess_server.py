"""Servers of the demo: how their start fails, and how they end."""

import asyncio
from pathlib import Path

import pytest

from asynccam.cli.subprocess_server import ServerProcess, running_servers
from asynccam.errors import RecordingError


def device(name: str, directory: Path) -> ServerProcess:
    where = ("--host", "127.0.0.1", "--port", "0", "--directory", str(directory), "--no-announce")
    return ServerProcess(name, ("serve", "multicam", "--device-id", name, *where))


async def test_server_process_start_failure_has_its_message(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    up: list[str] = []
    well, broken = device("well", tmp_path / "well"), device("broken", tmp_path / "file" / "inside")
    with pytest.raises(RecordingError, match="broken did not start: cannot record in"):
        async with running_servers([well, broken], lambda server: up.append(server.name)):
            pytest.fail("the block is not to be entered")
    assert up == ["well"]
    assert well.facts["device_id"] == "well"


async def test_running_servers_stop_when_the_block_fails(tmp_path: Path) -> None:
    with pytest.raises(LookupError):
        async with running_servers([device("well", tmp_path)]):
            raise LookupError


async def test_server_process_kill_then_stop(tmp_path: Path) -> None:
    well = device("well", tmp_path)
    async with running_servers([well]):
        await well.kill()
        await well.kill()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", well.facts["port"])


async def test_server_process_drops_settings_of_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASYNCCAM_SNAPSHOT_TOKEN", "wanted of everybody")
    server = ServerProcess(
        "snapshot", ("serve", "snapshot", "--host", "127.0.0.1", "--port", "0", "--test-cameras", "1")
    )
    async with running_servers([server]):
        assert server.facts["token"] is False
