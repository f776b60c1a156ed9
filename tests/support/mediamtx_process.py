"""A simulated MediaMTX service as a real process that can be killed and is back within milliseconds.

``python -m tests.support.mediamtx_process`` imports everything once and forks a service for each line
``PORT GENERATION BOOT DIRECTORY`` on its standard input; ``reap PID`` waits for one that was killed.
"""

import asyncio
import ctypes
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from asynccam.systems.mediamtx.simulator.behavior import ServiceWays
from asynccam.systems.mediamtx.simulator.simulator import MediaMTXSimulator

SECRET = "a secret of at least thirty-two bytes, for services that die"
BEAT = 0.005
"""Seconds between notifications."""
_PR_SET_PDEATHSIG = 1


async def _be_a_service(port: int, generation: int, boot: int, directory: Path) -> None:
    ways = ServiceWays.of(generation)
    ways.rate_limit = None
    picture = directory / "picture"
    service = MediaMTXSimulator(
        generation=generation,
        port=port,
        directory=directory / "service",
        secret=SECRET,
        ways=ways,
        picture=picture,
        clip=picture,
    )
    async with service:
        device, camera = next(iter(service.cameras.items()))
        number = 0
        while True:
            await asyncio.sleep(BEAT)
            number += 1
            told = {"device": device, "status": camera.status, "boot": boot, "number": number}
            service.tell("camera.status_change", told)


def _main() -> None:
    for line in sys.stdin:
        words = line.split()
        if words[0] == "reap":
            os.waitpid(int(words[1]), 0)
            continue
        port, generation, boot = (int(word) for word in words[:3])
        pid = os.fork()
        if not pid:
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            os.close(0)
            asyncio.run(_be_a_service(port, generation, boot, Path(words[3])))
            os._exit(0)
        print(pid, flush=True)  # noqa: T201 - the answer


class Processes:
    """Services at one port, one after the other.

    Args:
        port: Where.
        directory: Where their files are.
        parent: Forks them.

    Attributes:
        boot: How many there were.
    """

    def __init__(self, port: int, directory: Path, parent: asyncio.subprocess.Process) -> None:
        self.port = port
        self.boot = 0
        self._directory = directory
        self._parent = parent
        self._pid = 0

    async def start(self, generation: int) -> None:
        """Fork a service; it listens soon."""
        self.boot += 1
        self._say(f"{self.port} {generation} {self.boot} {self._directory}\n")
        assert self._parent.stdout is not None
        self._pid = int(await asyncio.wait_for(self._parent.stdout.readline(), 20))

    def kill(self) -> None:
        """Kill it without a warning."""
        os.kill(self._pid, signal.SIGKILL)
        self._say(f"reap {self._pid}\n")

    def _say(self, line: str) -> None:
        assert self._parent.stdin is not None
        self._parent.stdin.write(line.encode())


@asynccontextmanager
async def processes(port: int, directory: Path) -> AsyncIterator[Processes]:
    """Yield what starts and kills services; the last one dies with it."""
    parent = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.support.mediamtx_process",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield Processes(port, directory, parent)
    finally:
        parent.kill()
        await parent.wait()
        parent._transport.close()  # type: ignore[attr-defined]


if __name__ == "__main__":
    _main()
