"""Starts and stops cancelled at each of their awaits in turn: nothing is left here or on the server."""

import asyncio
from pathlib import Path

import pytest

from asynccam.recording import Verdict, verify_file
from asynccam.systems.thorvision import PortPool, stream
from tests.support.cancelling import cancelled_at
from tests.support.waiting import eventually
from tests.systems.thorvision.rig import PICTURE, Rig, free_ports, recorder_pids, rig


async def nothing_left(made: Rig, directory: Path) -> None:
    await eventually(lambda: not made.simulator.streams, what="the server's stream ends")
    assert not made.client.streams
    assert not made.client.ports.used
    assert not recorder_pids(directory)


async def test_start_cancelled_at_each_await(tmp_path: Path) -> None:
    async with rig(ports=PortPool(free_ports(20))) as made:

        async def start(directory: Path) -> None:
            await made.client.start_stream_with_recording(made.camera, PICTURE, output_dir=directory)

        count = 1
        while await cancelled_at(start(tmp_path / str(count)), count):
            await nothing_left(made, tmp_path)
            count += 1
        assert count > 5
        stopped = await made.client.stop_stream(0)
        assert stopped.files[0].verdict is Verdict.COMPLETE


@pytest.mark.parametrize("seconds", [0.01, 0.03, 0.05, 0.08, 0.11])
async def test_start_cancelled_while_gstreamer_starts(tmp_path: Path, seconds: float) -> None:
    async with rig() as made:
        await made.client.open_stream(made.camera, PICTURE)
        starting = asyncio.create_task(
            made.client.start_stream_with_recording(made.camera, PICTURE, output_dir=tmp_path)
        )
        await asyncio.sleep(seconds)
        starting.cancel()
        await asyncio.wait({starting})
        if starting.cancelled():
            if made.client.streams:  # the start had not come to the open stream yet
                await made.client.stop_stream(0)
            await nothing_left(made, tmp_path)
            for path in await asyncio.to_thread(list, tmp_path.iterdir()):
                # It had frames already; GStreamer may lose an interrupt before it plays.
                assert (await verify_file(path)).verdict is not Verdict.EMPTY


async def test_stop_cancelled_at_each_await(tmp_path: Path) -> None:
    async with rig(ports=PortPool(free_ports(20))) as made:
        count = 0
        cancelled = True
        while cancelled:
            count += 1
            directory = tmp_path / str(count)
            await made.client.start_stream_with_recording(made.camera, PICTURE, output_dir=directory)

            async def stop() -> None:
                await made.client.stop_stream(0)

            cancelled = await cancelled_at(stop(), count)
            if cancelled and made.client.streams:  # before anything was done
                await made.client.stop_stream(0)
            await nothing_left(made, tmp_path)
            (path,) = await asyncio.to_thread(list, directory.iterdir())
            assert (await verify_file(path)).verdict is Verdict.COMPLETE
        assert count > 1


async def test_enter_and_watch_cancelled_at_each_await() -> None:
    async with rig() as made:

        async def enter() -> None:
            async with type(made.client)("127.0.0.1", made.simulator.port) as client:
                await client.watch()

        count = 1
        while await cancelled_at(enter(), count):
            await eventually(lambda: made.simulator.listeners == 0)
            count += 1
        assert count > 3


async def test_open_stream_cancelled_at_each_await(tmp_path: Path) -> None:
    async with rig(ports=PortPool(free_ports(20))) as made:

        async def start() -> None:
            await made.client.open_stream(made.camera, PICTURE)

        count = 1
        while await cancelled_at(start(), count):
            await nothing_left(made, tmp_path)
            count += 1
        assert count > 1


async def test_open_stream_cancelled_during_name_lookup(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = asyncio.Event()

    async def silence(host: str) -> str:
        asked.set()
        await asyncio.get_running_loop().create_future()
        return host

    monkeypatch.setattr(stream, "host_for_others", silence)
    async with rig() as made:
        opening = asyncio.create_task(made.client.open_stream(made.camera, PICTURE))
        async with asyncio.timeout(30):
            await asked.wait()
        opening.cancel()
        await asyncio.wait({opening})
        assert opening.cancelled()
        assert not made.simulator.streams
        assert not made.client.ports.used
