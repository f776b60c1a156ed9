"""A child that is forked inside a coroutine leaves, and ends nothing of its parent's."""

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from asynccam.model.manifest import Manifest
from asynccam.systems.thorvision import ThorVisionSimulator, simulated_camera
from tests.support.multicam_device import running

_PROGRAM: Final = """
import asyncio, os, sys
from pathlib import Path
from asynccam import Session

async def leave(code):
    pid = os.fork()
    if pid == 0:
        LEAVE
    async with asyncio.timeout(30):
        while not (ended := os.waitpid(pid, os.WNOHANG))[0]:  # a blocking wait would stop the loop
            await asyncio.sleep(0.05)
    print("child", os.waitstatus_to_exitcode(ended[1]), flush=True)

async def main():
    async with Session() as session:
        cameras = await session.connect_all(sys.argv[2:])
        await leave(3)
        async with session.new_take(cameras, Path(sys.argv[1]), name="take") as take:
            await take.arm()
            await leave(4)
            await take.start(start_in=0.2)
            await asyncio.create_task(leave(5))
            await asyncio.sleep(0.5)  # the length of the recording
            await take.stop()
            await take.collect()
        await leave(6)

asyncio.run(main())
"""


_LEAVES: Final = {
    "sys.exit(code)": ("child 3\nchild 4\nchild 5\nchild 6\n", ""),
    "os._exit(code)": ("child 3\nchild 4\nchild 5\nchild 6\n", ""),
    "sys.exit('done')": ("child 1\n" * 4, "done\n" * 4),
    "print('here'); sys.exit()": ("here\nchild 0\n" * 4, ""),
}
"""How a child leaves, with what it and its parent print."""


@pytest.mark.parametrize("leave", _LEAVES)
async def test_forked_child_exits_without_ending_the_take(leave: str, tmp_path: Path) -> None:
    simulated = [simulated_camera(0, device_id="sim-0", width=64, height=64)]
    async with running(tmp_path / "device") as device, ThorVisionSimulator(simulated) as server:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", _PROGRAM.replace("LEAVE", leave), str(tmp_path)),
            f"multicam://127.0.0.1:{device.port}",
            f"thorvision://127.0.0.1:{server.port}/sim-0",
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            out, err = await asyncio.wait_for(process.communicate(), 60)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    assert (out.decode(), err.decode()) == _LEAVES[leave]
    manifest = await Manifest.load(tmp_path / "take")
    assert manifest.outcome == "complete"
    assert [len(camera.files) for camera in manifest.cameras] == [1, 1]


_THROWN_AWAY: Final = """
import asyncio
from asynccam.runtime.tasks import finish

async def work():
    try:
        await asyncio.Future(loop=asyncio.new_event_loop())
    finally:
        await finish(asyncio.sleep(0))

left = work()
left.send(None)
try:
    raise SystemExit(3)
except SystemExit:
    try:
        left.close()
    except RuntimeError as error:
        print(error)
print("goes on")
"""


def test_deleted_coroutine_without_a_loop_ends_no_process() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _THROWN_AWAY], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.splitlines()[-1:] == ["goes on"], (done.returncode, done.stderr)
    assert done.returncode == 0
