"""One device of each system as processes that are killed, frozen, started again and moved."""

import asyncio
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final
from uuid import uuid4

from asynccam.model.address import Address
from asynccam.model.credentials import Credentials
from asynccam.session import CameraTarget
from tests.support.devices import Device, device_process, free_port

SYSTEMS: Final = ("multicam", "mediamtx", "thorvision", "snapshot", "nanocam")
SERVICES: Final = ("mediamtx", "thorvision", "snapshot")
SECRET: Final = "one secret of at least thirty-two bytes for all"
CAMERA: Final = {"mediamtx": "camera0", "thorvision": "simulated-0", "snapshot": "test1"}
_OWN: Final[Mapping[str, tuple[object, ...]]] = {"mediamtx": ("--secret", SECRET, "--cameras", 1)}


class Row:
    """One device of each system, at ports they keep.

    Args:
        directory: Where they keep their files.
        systems: Which systems.
        host: The host in their addresses.
        listen: Where they listen; None for each command's own default.
        prefix: A command that becomes each device's, ``nsenter`` for example.

    Attributes:
        ports: Where each listens, by system.
        shown: The port in each one's address, where that is another: a proxy's.
        name: The id of the MultiCam device.
        running: The processes, by system.
        options: More options of each command, by system.
        since: When each one listened, in seconds of the loop's clock, by system.
    """

    def __init__(
        self,
        directory: Path,
        systems: Sequence[str] = SYSTEMS,
        *,
        host: str = "127.0.0.1",
        listen: str | None = None,
        prefix: Sequence[str] = (),
    ) -> None:
        self._directory = directory
        self._stack = AsyncExitStack()
        self._host = host
        self._listen: tuple[object, ...] = () if listen is None else ("--host", listen)
        self._prefix = prefix
        self.ports = {system: free_port() for system in systems}
        self.shown: dict[str, int] = {}
        self.name = f"row-{uuid4().hex[:12]}"
        self.running: dict[str, Device] = {}
        self.options: dict[str, tuple[object, ...]] = {"multicam": ("--device-id", self.name)}
        self.since: dict[str, float] = {}

    async def start(self, *systems: str) -> None:
        """Start all, or these, side by side, where they were before."""
        await asyncio.gather(*map(self._start, systems or self.ports))

    async def _start(self, system: str) -> None:
        options = (*_OWN.get(system, ()), *self.options.get(system, ()), "--port", self.ports[system])
        opened = device_process(
            system, self._directory / system, *self._listen, *options, prefix=self._prefix
        )
        self.running[system] = await opened.__aenter__()
        self.since[system] = asyncio.get_running_loop().time()
        self._stack.push_async_exit(opened)

    async def kill(self, *systems: str) -> None:
        """Kill all, or these, and see them gone."""
        self.signal(signal.SIGKILL, *systems)
        await asyncio.gather(*(self.running[system].process.wait() for system in systems or self.running))

    def signal(self, number: signal.Signals, *systems: str) -> None:
        """Send a signal to all, or to these."""
        for system in systems or self.running:
            self.running[system].process.send_signal(number)

    def address(self, system: str, *, of_service: bool = False) -> Address:
        """Return where one is, with its camera or without."""
        camera = "" if of_service else CAMERA.get(system, "")
        return Address(system, self._host, self.shown.get(system, self.ports[system]), camera)

    def has(self, address: str) -> bool:
        """Return whether an address is of one of these."""
        return Address.parse(address).port in {*self.ports.values(), *self.shown.values()}

    def credentials(self, system: str) -> Credentials:
        """Return what one's service wants."""
        return Credentials(token=str(self.running[system].said["token"]) if system == "mediamtx" else None)

    def places(self, systems: Sequence[str], *, of_service: bool = False) -> list[CameraTarget]:
        """Places for `Session.open`."""
        return [
            CameraTarget(self.address(system, of_service=of_service), credentials=self.credentials(system))
            for system in systems
        ]

    async def aclose(self) -> None:
        """End all."""
        await self._stack.aclose()


@asynccontextmanager
async def row(directory: Path, systems: Sequence[str] = SYSTEMS, *multicam: str) -> AsyncIterator[Row]:
    """A started row on loopback; ``multicam`` are more options of the MultiCam device."""
    one = Row(directory, systems)
    one.options["multicam"] += multicam
    try:
        await one.start()
        yield one
    finally:
        await one.aclose()
