"""The demo itself: servers of all systems as processes, met, recorded together, looked into."""

import asyncio
import os
import secrets
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from asynccam.cli import formatting
from asynccam.cli.commands.align import panels
from asynccam.cli.demo.cameras import LOOPBACK, Part, cast
from asynccam.cli.gstreamer import require_gstreamer
from asynccam.cli.live_display import drawn
from asynccam.cli.opening import open_session
from asynccam.cli.output import Output
from asynccam.cli.subprocess_server import ServerProcess, running
from asynccam.cli.svg_export import Picture
from asynccam.cli.take_runner import follow
from asynccam.cli.take_view import TakeView
from asynccam.errors import AsynccamError
from asynccam.model.camera import Camera
from asynccam.model.events import CameraFound, TakePhaseChanged
from asynccam.model.features import Record
from asynccam.recording import TestPattern, frame_times, verify_file
from asynccam.recording.mosaic.mosaic import write_sheet
from asynccam.runtime.tasks import TaskScope
from asynccam.runtime.timing import deadline
from asynccam.session import Session
from asynccam.take import Take, TakeLimits, align_take, read_frame_times

SHEET_NAME: Final = "contact-sheet.png"
_OF_SERVERS: Final = ("jwt", "piexif", "PIL", "prometheus_client", "paho")
"""What the simulators and servers need beyond the library, from the extra ``server``."""
_START_IN: Final = 3.0
_FIND_TIMEOUT: Final = 30.0
_SHEET_TIMEOUT: Final = 60.0
_KILL_AT: Final = 0.5
"""When in the recording servers die that are to die."""
_INTO: Final = 0.75
"""Seconds into what all cameras share that the contact sheet shows, where there is so much."""
_IMPATIENT: Final = TakeLimits(
    clock_timeout=5.0,
    arm_timeout=15.0,
    start_timeout=15.0,
    stop_timeout=10.0,
    status_timeout=3.0,
    stall_timeout=10.0,
    cancel_timeout=40.0,
)
"""For ``--chaos``: nobody at a demo wants to wait as long for the dead as an experimenter does."""


class Demo:
    """One run of it.

    Args:
        parent: Where the take goes; a new temporary directory if None.
        count: How many cameras.
        duration: Seconds.
        chaos: Whether things are to go wrong.
        output: Where progress goes.
        picture: Gets what a person sees of it.

    Attributes:
        picture: As given.
        take: Once there is one.
        fates: What is done on purpose, by the ids of the cameras it is done to.
        sheet: The contact sheet, once there is one.
    """

    def __init__(
        self,
        parent: Path | None,
        count: int,
        duration: float,
        output: Output,
        picture: Picture,
        *,
        chaos: bool,
    ) -> None:
        self.take: Take | None = None
        self.fates: dict[str, str] = {}
        self.sheet: Path | None = None
        self._parent = parent
        self._count = count
        self._output = output
        self.picture = picture
        self._limits = _IMPATIENT if chaos else TakeLimits()
        self._chaos = chaos
        # The suffix keeps devices of other demos on this computer out of the take.
        self._suffix = secrets.token_hex(2)
        self._view = TakeView(
            "asynccam demo",
            duration=duration,
            start_in=_START_IN,
            before=("serve", "find"),
            after=("align",),
        )

    async def run(self) -> None:
        """Play it.

        Raises:
            ModuleNotFoundError: The extra ``server`` is not installed.
            RecordingError: A server did not start, for want of GStreamer perhaps.
            TimeoutError: Devices were not found.
        """
        await asyncio.to_thread(_require_servers)
        await require_gstreamer(TestPattern())
        view = self._view
        async with drawn(view, self._output), self._servers() as parts, open_session([LOOPBACK]) as session:
            view.step("find", "the MultiCam phones by mDNS, all others by their addresses")
            with session.subscribe(view.handle, CameraFound):
                cameras, mortal = await self._find(session, parts)
            directory = self._parent or await _temporary("asynccam-demo-")
            self.take = session.new_take(
                cameras, directory, name=f"demo-{self._suffix}", limits=self._limits, verify=verify_file
            )
            await self._play(session, self.take, mortal)
            view.step("align", "making one picture of all cameras at the same instant")
            self.sheet = await contact_sheet(self.take)
            view.over()

    async def _play(self, session: Session, take: Take, mortal: Sequence[ServerProcess]) -> None:
        """The take itself, while servers die that are to die, and a picture is made of it."""
        hub = session.events
        with hub.stream(TakePhaseChanged) as phases, hub.stream(TakePhaseChanged) as signs:
            async with TaskScope("demo") as scope:
                scope.spawn(self.picture.watch(self._view, phases), name="picture")
                scope.spawn(self._kill(mortal, signs), name="kill")
                await follow(session, take, self._view)

    @asynccontextmanager
    async def _servers(self) -> AsyncIterator[list[Part]]:
        """Servers for the block; what they recorded goes with them."""
        view = self._view
        place = await asyncio.to_thread(tempfile.TemporaryDirectory, prefix="asynccam-devices-")
        try:
            parts = cast(self._count, Path(place.name), self._suffix, chaos=self._chaos)
            keys = {part.server.name: _keys(part) for part in parts}
            for part in parts:
                for key in keys[part.server.name]:
                    view.add(key, "…", "starting")
            view.step("serve", f"starting {len(parts)} servers of five systems, each a process of its own")

            def up(server: ServerProcess) -> None:
                for key in keys[server.name]:
                    view.say(key, "listening")

            async with running([part.server for part in parts], up):
                yield parts
        finally:
            await asyncio.to_thread(place.cleanup)

    async def _find(
        self, session: Session, parts: Sequence[Part]
    ) -> tuple[list[Camera], list[ServerProcess]]:
        """All cameras, in the order of the parts, and who of the servers is to die."""
        found: dict[str, list[Camera]] = {}
        async with deadline(_FIND_TIMEOUT, f"{formatting.cameras(self._count)} on {LOOPBACK}"):
            jobs = {part.server.name: _connect(session, part) for part in parts if part.system != "multicam"}
            phones = [part.server.name for part in parts if part.system == "multicam"]
            jobs["phones"] = _discover(session, phones)
            async with TaskScope("find") as scope:
                results = await scope.gather(jobs, name="find")
            for name, result in results.items():
                if isinstance(result, Exception):
                    raise result
                found[name] = result
        found |= {one.info.serial: [one] for one in found.pop("phones")}
        cameras: list[Camera] = []
        for part in parts:
            for key, camera in zip(_keys(part), found[part.server.name], strict=True):
                cameras.append(camera)
                still = not camera.supports(Record)
                self._view.become(key, camera.id, camera.info.name, still=still)
                self._view.say(camera.id, "found")
                if part.fate is not None:
                    self.fates[camera.id] = part.fate.words
        return cameras, [part.server for part in parts if part.fate is not None and part.fate.dies]

    async def _kill(self, servers: Sequence[ServerProcess], phases: AsyncIterator[TakePhaseChanged]) -> None:
        async for event in phases:
            if event.phase == "recording":
                await asyncio.sleep(_KILL_AT * self._view.duration)
                for server in servers:
                    await server.kill()
                return


async def contact_sheet(take: Take) -> Path | None:
    """Put all cameras at one instant into one picture beside the manifest; None if there is no instant."""
    times = await read_frame_times(take.manifest, take.directory, frame_times)
    alignment = align_take(take.manifest, times)
    if alignment.window is None:
        return None
    await alignment.save(take.directory)
    at = min(_INTO, alignment.window.seconds / 2)
    try:
        all_panels = panels(alignment, take.directory, at, times)
        beside = [
            replace(panel, label=f"{camera.id.partition(':')[0]} {panel.label}")
            for camera, panel in zip(alignment.cameras, all_panels, strict=True)
        ]
        return await write_sheet(beside, take.directory / SHEET_NAME, timeout=_SHEET_TIMEOUT)
    except AsynccamError:
        return None  # a file that no decoder likes has its verdict in the manifest


def _require_servers() -> None:
    """Find out before any server is started whether all of them can be."""
    for module in _OF_SERVERS:
        if find_spec(module) is None:
            raise ModuleNotFoundError(f"No module named {module!r}", name=module)


def _keys(part: Part) -> list[str]:
    """What stands for a part's cameras before they are met."""
    return [f"{part.system}://{part.server.name}/{number}" for number in range(part.cameras)]


async def _connect(session: Session, part: Part) -> list[Camera]:
    """All cameras of a service."""
    if part.system == "mediamtx":
        # As a person would say where the file server is.
        os.environ["MEDIAMTX_HTTP_PORT"] = str(part.server.said["http_port"])
    if part.system == "nanocam":
        return [await session.connect(part.address)]
    behind = await session.list_cameras(part.address, credentials=part.credentials)
    return await session.connect_all([info.address for info in behind], credentials=part.credentials)


async def _discover(session: Session, names: Sequence[str]) -> list[Camera]:
    """Wait until all of the phones have been found; others on this computer are passed over."""
    if not names:
        return []
    wanted = [f"multicam://{name}" for name in names]
    with session.events.stream(CameraFound) as arrivals:
        await session.discover(systems=["multicam"], timeout=_FIND_TIMEOUT, count=len(wanted))
        while not session.cameras.keys() >= set(wanted):
            await anext(arrivals)
    return [session.cameras[one] for one in wanted]


async def _temporary(prefix: str) -> Path:
    return Path(await asyncio.to_thread(tempfile.mkdtemp, prefix=prefix))
