"""A simulated server with real SRT streams, and a client of it."""

import os
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import pytest

from asynccam.model.events import Event
from asynccam.systems.thorvision import (
    Camera,
    Capability,
    PortPool,
    ServerFaults,
    StreamSettings,
    ThorVisionClient,
    ThorVisionSimulator,
)
from asynccam.systems.thorvision.simulator import stream
from tests.support.waiting import eventually

QUICK = StreamSettings(latency=20, first_frame_timeout=8.0)
PICTURE = Capability(media_type="image/jpeg", width=160, height=64, framerate="30/1")
OTHER = Capability(media_type="image/jpeg", width=64, height=64, framerate="15/1")


def device(number: int) -> Camera:
    return Camera(id=number, name=f"Cam {number}", device_id=f"usb-{number}", caps=(PICTURE, OTHER))


@dataclass
class Rig:
    simulator: ThorVisionSimulator
    client: ThorVisionClient
    cameras: tuple[Camera, ...]
    events: list[Event] = field(default_factory=list)

    @property
    def camera(self) -> Camera:
        return self.cameras[0]

    def of(self, *kinds: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kinds)]

    def posts(self) -> list[str]:
        """Paths of the commands the server got, in order."""
        return [one.path for one in self.simulator.requests if one.method == "POST"]

    def ports(self) -> list[int]:
        """The ports it was asked to listen on, in order."""
        return [one.body["port"] for one in self.simulator.requests if one.path in ("/jpeg", "/test")]


@asynccontextmanager
async def rig(
    faults: ServerFaults | None = None,
    *,
    count: int = 1,
    cameras: tuple[Camera, ...] = (),
    settings: StreamSettings = QUICK,
    ports: PortPool | None = None,
) -> AsyncIterator[Rig]:
    cameras = cameras or tuple(device(number) for number in range(count))
    async with ThorVisionSimulator(cameras, faults=faults) as simulator:
        client = ThorVisionClient(
            "127.0.0.1",
            simulator.port,
            settings=settings,
            ports=ports or PortPool(free_ports(20)),
            timeout=5.0,
        )
        async with client:
            made = Rig(simulator, client, cameras)
            client.events.subscribe(made.events.append)
            yield made


async def frames_sent(simulator: ThorVisionSimulator, count: int) -> None:
    """Wait until every stream of the simulator has sent so many more frames."""
    wanted = {stream: stream.sent + count for stream in simulator.streams.values()}
    await eventually(lambda: all(stream.sent >= least for stream, least in wanted.items()), what="frames")


def numbers_sent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of the frames that simulated cameras send from now on, in a list that grows.

    A camera does not wait for its viewers: on a busy computer it leaves out frames that GStreamer is too slow
    to take, so the numbers have gaps.
    """
    numbers: list[int] = []
    original = stream.with_metadata

    def with_metadata(frame: bytes, index: int, fps: Fraction) -> bytes:
        numbers.append(index)
        return original(frame, index, fps)

    monkeypatch.setattr(stream, "with_metadata", with_metadata)
    return numbers


def free_ports(count: int) -> list[int]:
    """UDP ports that nobody here is bound to."""
    with ExitStack() as stack:
        socks = [stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(count)]
        for sock in socks:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in socks]


def recorder_pids(directory: Path) -> list[int]:
    """GStreamer's processes that record into a directory."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with suppress(OSError):
                command = (entry / "cmdline").read_bytes()
                if command.split(b"\0")[0].endswith(b"gst-launch-1.0") and str(directory).encode() in command:
                    found.append(int(entry.name))
    return found
