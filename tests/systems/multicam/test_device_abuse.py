"""Hundreds of connections, silence, garbage and floods disturb neither a recording nor other controllers."""

import asyncio
import random
import resource
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest

from asynccam.systems.multicam.device.connection import DeviceLimits
from asynccam.systems.multicam.device.device import MultiCamDevice
from tests.support.multicam_device import BytesRecorder, ask, command, connected, running
from tests.support.waiting import eventually

GARBAGE = [
    pytest.param(b"GET / HTTP/1.1\r\nHost: device\r\n\r\n", id="http"),
    pytest.param(b"\xff\xff\xff\xff" + b"\0" * 100, id="4 GB"),
    pytest.param(b"\x80\0\0\0{", id="2 GB, or negative"),
    pytest.param(b"\0\x10\0\0", id="1 MB"),
    pytest.param(b"{}", id="empty object"),
    pytest.param(b'{"command": 5}', id="wrong type"),
    pytest.param(b'{"command": null}', id="null"),
    pytest.param(b'{"command":"HEARTBEAT","timestamp":"now"}', id="text for a number"),
    pytest.param(b'{"command":"HEARTBEAT","deviceId":"\xff\xfe"}', id="no UTF-8"),
    pytest.param(b'{"a":' * 5000, id="deep nesting"),
    pytest.param(b'{"command": nonsense}', id="no JSON"),
    pytest.param(b"\0\0\0\x02[]", id="framed array"),
    pytest.param(b"\0\0\0\0", id="framed nothing"),
    pytest.param(b'{"a":"' + b"x" * 200_000 + b'"}', id="oversized"),
    pytest.param(b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", id="TLS"),
]


@asynccontextmanager
async def recording_all_the_while(device: MultiCamDevice) -> AsyncIterator[None]:
    """A recording that has to outlive what is done in the block, and be stopped as if nothing had been."""
    assert (await ask(device, "START_RECORDING"))["status"] == "recording"
    yield
    assert (await ask(device, "HEARTBEAT"))["status"] == "recording"
    assert (await ask(device, "STOP_RECORDING"))["status"] == "recording_stopped"


@pytest.mark.parametrize("data", GARBAGE)
async def test_garbage_gets_error_and_close(tmp_path: Path, data: bytes) -> None:
    async with running(tmp_path) as device, recording_all_the_while(device), connected(device) as controller:
        controller.send(data)
        answer = await controller.rest()
        assert b'"error"' in answer


async def test_command_before_garbage_is_answered(tmp_path: Path) -> None:
    async with running(tmp_path) as device, connected(device) as controller:
        controller.send(command("HEARTBEAT") + b'{"command": nonsense}')
        assert (await controller.document())["status"] == "ready"
        assert (await controller.document())["status"] == "error"
        assert await controller.rest() == b""


async def test_invalid_prefixed_command_gets_prefixed_error(tmp_path: Path) -> None:
    async with running(tmp_path) as device, connected(device) as controller:
        controller.send(b"\0\0\0\x02{}")
        assert (await controller.framed())["status"] == "error"


async def test_random_bytes_never_hurt(tmp_path: Path) -> None:
    noise = random.Random(7)
    async with running(tmp_path) as device, recording_all_the_while(device):
        for _ in range(100):
            async with connected(device) as controller:
                controller.send(noise.randbytes(noise.randrange(1, 300)))
                controller.writer.write_eof()
                await controller.rest()
        await eventually(lambda: device.connections == 0)


async def test_three_hundred_controllers_at_once(tmp_path: Path) -> None:
    async with running(tmp_path) as device, recording_all_the_while(device):
        answers = await asyncio.gather(*(ask(device, "HEARTBEAT") for _ in range(300)))
    assert [answer["status"] for answer in answers] == ["recording"] * 300


async def test_three_hundred_silent_connections(tmp_path: Path) -> None:
    async with running(tmp_path) as device, recording_all_the_while(device):
        with ExitStack() as stack:
            for number in range(300):
                sock = stack.enter_context(socket.create_connection(("127.0.0.1", device.port)))
                sock.send((b"", b'{"command":"START', b"\0\0", b"\0\0\1\0{")[number % 4])
            await eventually(lambda: device.connections == 300)
            async with asyncio.timeout(20):
                for _ in range(20):
                    assert (await ask(device, "HEARTBEAT"))["status"] == "recording"


async def test_fifty_stalled_readers(tmp_path: Path) -> None:
    (tmp_path / "big.mp4").write_bytes(bytes(32 * 1024 * 1024))
    async with running(tmp_path) as device, recording_all_the_while(device):
        with ExitStack() as stack:
            for _ in range(50):
                sock = stack.enter_context(socket.create_connection(("127.0.0.1", device.port)))
                sock.send(command("GET_VIDEO", fileName="big.mp4"))
            async with asyncio.timeout(20):
                for _ in range(20):
                    assert (await ask(device, "HEARTBEAT"))["status"] == "recording"


async def test_command_flood_leaves_the_loop_responsive(tmp_path: Path) -> None:
    async with running(tmp_path) as device, recording_all_the_while(device):
        with socket.create_connection(("127.0.0.1", device.port)) as flood:
            flood.setblocking(False)
            one = command("HEARTBEAT")
            with suppress(BlockingIOError):
                while flood.send(one * 1000):
                    pass
            assert (await ask(device, "HEARTBEAT"))["status"] == "recording"


async def test_silent_connection_times_out(tmp_path: Path) -> None:
    limits = DeviceLimits(reserve=0, idle_timeout=0.1)
    async with running(tmp_path, limits=limits) as device, connected(device) as controller:
        controller.send(command("HEARTBEAT"))
        assert (await controller.document())["status"] == "ready"
        assert await controller.rest() == b""


async def test_slow_command_times_out(tmp_path: Path) -> None:
    limits = DeviceLimits(reserve=0, command_timeout=0.3)
    async with running(tmp_path, limits=limits) as device, connected(device) as controller:
        await eventually(lambda: device.connections == 1)
        async with asyncio.timeout(20):
            while device.connections:
                controller.send(b" ")
                await asyncio.sleep(0.02)  # the pace of the drops


async def test_peer_that_reads_no_reply_is_disconnected(tmp_path: Path) -> None:
    for number in range(3000):
        (tmp_path / f"{'long name ' * 15}{number}.mp4").touch()
    async with running(tmp_path, limits=DeviceLimits(reserve=0, answer_timeout=0.2)) as device:
        with socket.create_connection(("127.0.0.1", device.port)) as sock:
            sock.send(command("LIST_FILES") * 12)
            await eventually(lambda: device.connections == 1)
            await eventually(lambda: device.connections == 0, timeout=20)


async def test_connection_limit_closes_longest_idle(tmp_path: Path) -> None:
    limits = DeviceLimits(reserve=0, connections=3)
    async with (
        running(tmp_path, limits=limits) as device,
        connected(device) as first,
        connected(device) as second,
        connected(device) as third,
    ):
        for controller in (first, second, third, first):
            controller.send(command("HEARTBEAT"))
            await controller.document()
        assert (await ask(device, "HEARTBEAT"))["status"] == "ready"
        assert await second.rest() == b""
        first.send(command("HEARTBEAT"))
        assert (await first.document())["status"] == "ready"


async def test_new_connection_is_refused_when_all_are_busy(tmp_path: Path) -> None:
    recorder = BytesRecorder()
    recorder.may_start.clear()
    limits = DeviceLimits(reserve=0, connections=1)
    async with running(tmp_path, recorder, limits=limits) as device, connected(device) as busy:
        busy.send(command("START_RECORDING"))
        await eventually(lambda: device.phase.value == "starting")
        async with connected(device) as newcomer:
            assert await newcomer.rest() == b""
        recorder.may_start.set()
        assert (await busy.document())["status"] == "recording"


async def test_no_file_descriptors_left(tmp_path: Path) -> None:
    async with running(tmp_path) as device, connected(device) as controller:
        controller.send(command("HEARTBEAT"))
        await controller.document()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        with ExitStack() as stack:
            stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
            waiting = stack.enter_context(socket.socket())
            resource.setrlimit(resource.RLIMIT_NOFILE, (waiting.fileno() + 1, hard))
            waiting.setblocking(False)
            await asyncio.get_running_loop().sock_connect(waiting, ("127.0.0.1", device.port))
            await asyncio.sleep(0.05)  # in which the device fails to accept it
            controller.send(command("HEARTBEAT"))
            assert (await controller.document())["status"] == "ready"
        assert (await ask(device, "HEARTBEAT"))["status"] == "ready"
