"""A service under systemd: ready once the cameras have been tried, alive as long as the loop runs.

A unit with ``Type=notify``, ``WatchdogSec=10`` and
``ExecStart=python examples/supervisor.py fleet.toml`` needs no more.
"""

import asyncio
import os
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path

from asynccam import CameraEvent, CameraFound, CameraStateChanged, Session


def sd_notify(message: str) -> None:
    """Notify systemd without waiting; do nothing where no systemd listens."""
    where = os.environ.get("NOTIFY_SOCKET", "")
    if where:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify, suppress(OSError):
            notify.setblocking(False)
            notify.connect(f"\0{where[1:]}" if where.startswith("@") else where)
            notify.send(message.encode())


async def main(fleet: Path) -> None:
    """Keep a session with the cameras of a fleet until SIGTERM."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    interval = int(os.environ.get("WATCHDOG_USEC", "20000000")) / 1_000_000 / 2
    async with Session.open(fleet=fleet) as session:

        def status(event: CameraEvent) -> None:
            sd_notify(f"STATUS={len(session.cameras)} cameras, {len(session.unavailable)} unavailable")

        with session.subscribe(status, CameraFound, CameraStateChanged, replay=True):
            sd_notify("READY=1")
            while not stop.is_set():
                sd_notify("WATCHDOG=1")
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), interval)
        sd_notify("STOPPING=1")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
