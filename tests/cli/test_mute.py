"""Commands that look around do not wait for cameras that are dead, mute or stopped."""

import asyncio
import re
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from asynccam.systems.thorvision import ThorVisionSimulator
from tests.support.command import asynccam
from tests.support.devices import device_process, free_port
from tests.support.multicam_device import running


class Mute:
    """A TCP server that accepts, takes everything, and neither answers nor hangs up before the test's end.

    Attributes:
        port: Where it listens.
        accepted: Connections so far.
        over: Set at the test's end.
    """

    def __init__(self) -> None:
        self.port = free_port()
        self.accepted = 0
        self.over = asyncio.Event()

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        await self.over.wait()
        writer.close()


@pytest.fixture
async def mute() -> AsyncIterator[Mute]:
    one = Mute()
    async with await asyncio.start_server(one.converse, "127.0.0.1", one.port):
        yield one
        one.over.set()


async def test_top_once_shows_mute_cameras_as_unavailable(tmp_path: Path, mute: Mute) -> None:
    with socket.socket() as taken:  # bound and not listening: connections are refused
        taken.bind(("127.0.0.1", 0))
        dead = f"multicam://127.0.0.1:{taken.getsockname()[1]}"
        async with (
            running(tmp_path / "phone") as phone,
            ThorVisionSimulator() as server,
            device_process("snapshot", tmp_path / "stopped") as stopped,
        ):
            stopped.process.send_signal(signal.SIGSTOP)
            silent = [
                f"{system}://127.0.0.1:{mute.port}"
                for system in ("multicam", "mediamtx", "nanocam", "thorvision")
            ]
            healthy = f"multicam://127.0.0.1:{phone.port}"
            line = (healthy, server.address, dead, *silent, stopped.address)
            ended = await asynccam(
                "top", *line, "--interface", "127.0.0.1", "--once", "--json", "--timeout", 3
            )
    assert (ended.code, ended.err) == (0, "")
    rows = {row["address"]: row for row in ended.json()["cameras"]}
    states = {address: row["state"] for address, row in rows.items()}
    assert states[healthy] == "ready"
    assert any(address.startswith(server.address) and state == "ready" for address, state in states.items())
    assert {address for address, state in states.items() if state == "away"} == {
        dead,
        *silent,
        stopped.address,
    }
    assert "refused" in rows[dead]["reason"]
    for address in (*silent, stopped.address):
        # The first look has 3 s; on a busy computer a check may have followed, which has 4 s.
        assert re.search(r"within [34] s", rows[address]["reason"])
    assert mute.accepted


@pytest.mark.parametrize("system", ["mediamtx", "thorvision", "snapshot", "multicam", "nanocam"])
async def test_cameras_of_a_mute_service_times_out(mute: Mute, system: str) -> None:
    ended = await asynccam("cameras", f"{system}://127.0.0.1:{mute.port}", "--timeout", 0.5)
    assert ended.code != 0
    assert "within 0.5 s" in ended.err
    assert mute.accepted


async def test_doctor_checks_mute_cameras_concurrently(tmp_path: Path, mute: Mute) -> None:
    silent = [f"{system}://127.0.0.1:{mute.port}" for system in ("multicam", "thorvision", "nanocam")]
    dead = f"multicam://127.0.0.1:{free_port()}"
    async with running(tmp_path / "phone") as phone:
        healthy = f"multicam://127.0.0.1:{phone.port}"
        ended = await asynccam("doctor", *silent, dead, healthy, "--timeout", 3, "--json")
    told = {
        one["found"].partition(": ")[0]: one["found"]
        for one in ended.json()["findings"]
        if one["check"] == "Cameras" and "://" in one["found"]
    }
    assert list(told) == [*silent, dead, healthy]
    assert "is ready" in told[healthy]
    assert "refused" in told[dead]
    assert all("within 3 s" in told[address] for address in silent)


async def test_discover_does_not_contact_cameras(tmp_path: Path) -> None:
    options = ("--announce", "--interface", "127.0.0.1", "--device-id", f"stopped-{free_port()}")
    async with device_process("multicam", tmp_path, *options) as device:
        found = "[]"
        while str(options[-1]) not in found:
            ended = await asynccam("discover", "--interface", "127.0.0.1", "--timeout", 2, "--json")
            found = ended.out
        device.process.send_signal(signal.SIGSTOP)
        ended = await asynccam("discover", "--interface", "127.0.0.1", "--timeout", 0.5, "--json")
        assert ended.code == 0
