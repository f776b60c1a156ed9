"""A program that ends without a word to its client: as the maker promises, `cleanup` comes by itself."""

from pathlib import Path

import pytest

from asynccam.recording import Verdict, verify_file
from tests.seeds.examples import run
from tests.support.waiting import eventually
from tests.systems.thorvision.rig import free_ports, recorder_pids, rig

_PROGRAM = """
import asyncio
from asynccam.systems.thorvision import PortPool, XdaqClient

async def main():
    client = XdaqClient("127.0.0.1", {port}, ports=PortPool({ports}))
    (camera,) = await client.list_cameras()
    await client.start_stream_with_recording(camera, camera.capabilities[0], output_dir={directory!r})
    await asyncio.sleep(0.3)  # the length of the recording
    {end}

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("end", "code"), [("return", 0), ("raise SystemExit(3)", 3), ("raise KeyError('x')", 1)]
)
async def test_program_end_stops_streams_and_recordings(tmp_path: Path, end: str, code: int) -> None:
    async with rig() as made:
        program = _PROGRAM.format(
            port=made.simulator.port, ports=free_ports(20), directory=str(tmp_path / "out"), end=end
        )
        ran = await run(program, tmp_path)
        assert ran.code == code, ran.err
        assert made.posts()[-1] == "/stop"
        assert "Unclosed" not in ran.err
        await eventually(lambda: not made.simulator.streams, what="the server's stream ends")
        assert not recorder_pids(tmp_path)
    (file,) = (tmp_path / "out").iterdir()
    assert (await verify_file(file)).verdict is Verdict.COMPLETE


async def test_program_end_closes_an_unused_connection(tmp_path: Path) -> None:
    async with rig() as made:
        source = _PROGRAM.replace("await client.start", "return\n    await client.start")
        program = source.format(port=made.simulator.port, ports=free_ports(20), directory="out", end="return")
        ran = await run(program, tmp_path)
    assert (ran.code, ran.out, ran.err) == (0, "", "")


async def test_program_end_waits_for_a_task_that_stops_its_stream(tmp_path: Path) -> None:
    background = """
    async def record():
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.2)  # the program must not be over by then
            stopped = await client.stop_stream(camera.id)
            print([file.verdict.value for file in stopped["files"]])

    task = asyncio.create_task(record())
    await asyncio.sleep(0)
"""
    async with rig() as made:
        program = _PROGRAM.format(
            port=made.simulator.port, ports=free_ports(20), directory=str(tmp_path / "out"), end=background
        )
        ran = await run(program, tmp_path)
    assert (ran.code, ran.out) == (0, "['complete']\n"), ran.err
