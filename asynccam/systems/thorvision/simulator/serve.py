"""A simulated ThorVision server as one coroutine: what ``asynccam simulate thorvision`` runs."""

import asyncio
from collections.abc import Callable

from asynccam.errors import UsageError
from asynccam.systems.thorvision.models import HTTP_PORT
from asynccam.systems.thorvision.simulator.faults import ServerFaults
from asynccam.systems.thorvision.simulator.simulator import ThorVisionSimulator, simulated_camera


async def serve(
    *,
    host: str = "127.0.0.1",
    port: int = HTTP_PORT,
    cameras: int = 2,
    width: int = 640,
    height: int = 480,
    replug: float | None = None,
    faults: ServerFaults | None = None,
    on_ready: Callable[[ThorVisionSimulator], None] = lambda _: None,
) -> None:
    """Be a ThorVision server with made-up cameras until cancelled.

    Args:
        host: Address to listen at.
        port: HTTP port; 0 takes a free one.
        cameras: How many there are.
        width: Pixels of the largest picture.
        height: Pixels of the largest picture.
        replug: Seconds after which the last camera is unplugged, and after as many more plugged in
            again, and so on; None for never.
        faults: How it misbehaves.
        on_ready: Called once it listens.

    Raises:
        UsageError: That many cameras, or pictures of that size, are not to be had.
        ConnectionError: The address cannot be listened at.
    """
    if cameras < 1 or width < 64 or height < 64 or (replug is not None and replug <= 0):
        raise UsageError("a simulator has at least one camera, with pictures of at least 64 by 64")
    devices = [
        simulated_camera(
            number, device_id=f"simulated-{number}", width=width // 2 * 2, height=height // 2 * 2
        )
        for number in range(cameras)
    ]
    async with ThorVisionSimulator(devices, host=host, port=port, faults=faults) as simulator:
        on_ready(simulator)
        if replug is None:
            await asyncio.Event().wait()
        while replug is not None:
            await asyncio.sleep(replug)
            await simulator.unplug(devices[-1].id)
            await asyncio.sleep(replug)
            await simulator.plug(devices[-1])
