"""The simulated service in a task, and as a process of its own."""

import asyncio
import signal
import sys
from pathlib import Path

import aiohttp
import pytest

from asynccam.errors import ConnectionError
from asynccam.systems.mediamtx.simulator.simulator import MediaMTXSimulator
from tests.support.mediamtx_service import SECRET, talker

PROGRAM = """
import asyncio
from asynccam.systems.mediamtx.simulator.simulator import MediaMTXSimulator
async def main():
    async with MediaMTXSimulator(generation=2, cameras=["Door"], secret={secret!r}) as service:
        print(service.port, service.token("viewer"), flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


async def serve(service: MediaMTXSimulator, ready: "asyncio.Future[MediaMTXSimulator] | None" = None) -> None:
    async with service:
        if ready is not None:
            ready.set_result(service)
        await asyncio.Event().wait()


@pytest.mark.parametrize("generation", [1, 2])
async def test_serve_runs_until_cancelled(generation: int, tmp_path: Path) -> None:
    ready: asyncio.Future[MediaMTXSimulator] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(
        serve(
            MediaMTXSimulator(
                port=0,
                http_port=0,
                generation=generation,
                directory=tmp_path / "new",
                cameras=3,
                secret=SECRET,
            ),
            ready,
        )
    )
    service = await asyncio.wait_for(ready, 10)
    assert service.port != service.http_port
    async with talker(service) as one:
        assert (await one.ask("get_camera_list"))["total"] == 3
        with pytest.raises(ConnectionError, match="cannot listen"):
            await serve(MediaMTXSimulator(port=service.port))
        serving.cancel()
        assert await one.closed() == 1001
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert (tmp_path / "new" / "recordings").is_dir()


async def test_serve_process_ends_on_interrupt(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        PROGRAM.format(secret=SECRET),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=tmp_path,
    )
    try:
        assert process.stdout is not None
        port, token = (await asyncio.wait_for(process.stdout.readline(), 20)).decode().split()
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"ws://127.0.0.1:{port}/ws") as socket,
        ):
            await socket.send_str(
                f'{{"jsonrpc":"2.0","id":1,"method":"authenticate","params":{{"auth_token":"{token}"}}}}'
            )
            assert (await socket.receive_json(timeout=5))["result"]["role"] == "viewer"
            process.send_signal(signal.SIGINT)
            assert (await socket.receive(timeout=5)).data == 1001
        await asyncio.wait_for(process.wait(), 10)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
    assert not list(tmp_path.iterdir())
