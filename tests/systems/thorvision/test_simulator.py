"""The simulator itself: its frames, its answers, its troubles, and the coroutine that runs it."""

import asyncio
import socket
import struct
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynccam.errors import ConnectionError, RemoteProtocolError, StateError, TimeoutError, UsageError
from asynccam.systems.thorvision import (
    CameraAdded,
    CameraRemoved,
    ServerFaults,
    StreamSettings,
    ThorVisionClient,
    ThorVisionSimulator,
    simulated_camera,
)
from asynccam.systems.thorvision.simulator.simulator import serve
from asynccam.systems.thorvision.simulator.stream import JpegSplitter, with_metadata
from tests.support.waiting import eventually
from tests.systems.thorvision.rig import PICTURE, device, frames_sent, free_ports, numbers_sent, rig

# A start, a table whose bytes look like an end, a scan with a stuffed FF and a restart marker, an end.
PICTURE_BYTES = bytes.fromhex("ffd8 ffdb0006ffd9ffd8 ffda0004aabb 01ff00ffd002 ffd9")
METADATA = struct.Struct("<QQIIIIQ")


@given(st.lists(st.integers(0, 3 * len(PICTURE_BYTES) + 4)))
def test_splitter_with_cuts_anywhere(cuts: list[int]) -> None:
    stream = b"junk" + PICTURE_BYTES * 3
    places = [0, *sorted(cuts), len(stream)]
    splitter = JpegSplitter()
    pieces = [stream[start:end] for start, end in pairwise(places)]
    assert [frame for piece in pieces for frame in splitter.feed(piece)] == [PICTURE_BYTES] * 3


def test_metadata_follows_the_start_marker() -> None:
    frame = with_metadata(PICTURE_BYTES, 45, Fraction(30))
    assert frame[:6] == bytes.fromhex("ffd8 ffef 002a")
    assert METADATA.unpack_from(frame, 6) == (1_500_000_000, 150_000_000, 45_000, 1, 1, 45, 0)
    assert frame[46:] == PICTURE_BYTES[2:]
    assert JpegSplitter().feed(frame) == [frame]


async def frames_of(path: Path) -> list[bytes]:
    process = await asyncio.create_subprocess_exec(
        *["gst-launch-1.0", "-q", "filesrc", f"location={path}", "!", "matroskademux", "!", "fdsink", "fd=1"],
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    return [b"\xff\xd8\xff\xef" + rest for rest in output.split(b"\xff\xd8\xff\xef")[1:]]


async def test_recorded_frames_carry_metadata(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = numbers_sent(monkeypatch)
    async with rig(settings=StreamSettings()) as made:  # SRT repairs losses for half a second, not for 20 ms
        await made.client.start_stream_with_recording(made.camera, PICTURE, output_dir=tmp_path)
        await frames_sent(made.simulator, 30)
        (file,) = (await made.client.stop_stream(0)).files
    frames = await frames_of(file.path)
    assert len(frames) == file.frames
    records = [METADATA.unpack_from(frame, 6) for frame in frames]
    numbers = [record[5] for record in records]
    # Every frame that was sent, in order; the last ones were on their way at the stop.
    first = sent.index(numbers[0])
    assert numbers == sent[first : first + len(numbers)]
    assert first <= 5
    assert len(numbers) >= 15
    for nanoseconds, ticks, sample, ttl_in, ttl_out, number, reserved in records:
        assert nanoseconds == number * 1_000_000_000 // 30
        assert (ticks, sample) == (number * 100_000_000 // 30, number * 1000)
        assert (ttl_in, ttl_out, reserved) == (number // 30 % 2, number % 2, 0)


async def ask(simulator: ThorVisionSimulator, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
    url = f"http://127.0.0.1:{simulator.port}{path}"
    async with aiohttp.request(method, url, json=body) as response:
        return response.status, await response.read()


PORT, ANOTHER_PORT = free_ports(2)
START = {"id": 0, "port": PORT, "capability": str(PICTURE)}


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/jpeg", START | {"id": 9}, 404),
        ("/jpeg", START | {"port": 0}, 422),
        ("/jpeg", {"id": 0}, 422),
        ("/jpeg", [1], 422),
        ("/jpeg", START | {"capability": "image/jpeg,width=1,height=1,framerate=1/1"}, 400),
        ("/stop", {"id": 0}, 400),
        ("/stop", {"name": 0}, 422),
        ("/stop", 5, 422),
        ("/h265", START, 404),
    ],
)
async def test_invalid_commands_are_refused(path: str, body: Any, status: int) -> None:
    async with ThorVisionSimulator([device(0)]) as simulator:
        assert (await ask(simulator, "POST", path, body))[0] == status
        assert not simulator.streams


async def test_second_start_leaves_the_first(tmp_path: Path) -> None:
    async with ThorVisionSimulator([device(0)]) as simulator:
        assert (await ask(simulator, "POST", "/jpeg", START))[0] == 200
        assert (await ask(simulator, "POST", "/jpeg", START | {"port": ANOTHER_PORT}))[0] == 200
        assert simulator.streams[0].port == PORT
        assert (await ask(simulator, "GET", "/"))[0] == 200


async def test_port_in_use_is_an_error_of_the_server() -> None:
    async with ThorVisionSimulator([device(0), device(1)]) as simulator:
        assert (await ask(simulator, "POST", "/jpeg", START))[0] == 200
        status, words = await ask(simulator, "POST", "/jpeg", START | {"id": 1})
        assert status == 500
        assert str(PORT).encode() in words


async def test_port_claimed_by_another_simulator() -> None:
    port = free_ports(1)[0]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as claim:
        claim.bind(f"\0asynccam SRT port {port}")
        async with ThorVisionSimulator([device(0)]) as simulator:
            status, words = await ask(simulator, "POST", "/jpeg", START | {"port": port})
    assert status == 500
    assert b"another simulator" in words


async def test_plug_and_unplug() -> None:
    faults = ServerFaults(repeat_added=True)
    async with rig(faults) as made:
        await made.client.watch()
        await made.simulator.plug(device(4))
        await made.simulator.tell('{"event_type": "Weather", "camera": null}')
        await made.simulator.unplug(4)
        await eventually(lambda: made.of(CameraRemoved))
        assert len(made.of(CameraAdded)) == 2
        await made.simulator.drop_listeners()
        await eventually(lambda: made.simulator.listeners == 1)


async def test_slow_and_invalid_responses() -> None:
    async with ThorVisionSimulator([device(0)], faults=ServerFaults(slow=0.3)) as simulator:
        client = ThorVisionClient("127.0.0.1", simulator.port, timeout=0.1)
        with pytest.raises(TimeoutError):
            await client.list_cameras()
        simulator.faults.slow, simulator.faults.wrong_json = 0.0, True
        with pytest.raises(RemoteProtocolError):
            await client.list_cameras()
        await client.cleanup()


async def test_address_and_port() -> None:
    async with ThorVisionSimulator() as simulator:
        assert simulator.address == f"thorvision://127.0.0.1:{simulator.port}"
        with pytest.raises(StateError):
            await simulator.start()
        with pytest.raises(ConnectionError, match="cannot listen"):
            await ThorVisionSimulator(port=simulator.port).start()
        (camera,) = simulator.cameras
        assert camera.best(width=640, fps="30000/1001").framerate == "30000/1001"


async def test_serve_until_cancelled() -> None:
    ready: asyncio.Future[ThorVisionSimulator] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(serve(port=0, cameras=2, replug=0.05, on_ready=ready.set_result))
    simulator = await ready
    assert [camera.key for camera in simulator.cameras] == ["simulated-0", "simulated-1"]
    await eventually(lambda: len(simulator.cameras) == 1)
    await eventually(lambda: len(simulator.cameras) == 2)
    serving.cancel()
    await asyncio.wait({serving})
    assert serving.cancelled()
    with pytest.raises(UsageError):
        await serve(port=0, cameras=0)


def test_simulated_cameras_differ_by_number() -> None:
    assert simulated_camera(1).key == "Simulated camera 1:1"
    assert simulated_camera(-2, device_id="x").key == "x"
