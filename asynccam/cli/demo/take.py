"""The take of ``asynccam demo``: start servers, connect, record, check files."""

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
from asynccam.cli.demo.cameras import LOOPBACK, DemoServer, demo_servers
from asynccam.cli.demo.report import TerminalPicture
from asynccam.cli.errors import EXTRAS
from asynccam.cli.output import Output
from asynccam.cli.serving import require_gstreamer
from asynccam.cli.subprocess_server import ServerProcess, running_servers
from asynccam.cli.take_runner import run_with_view
from asynccam.cli.take_view import TakeView, live_view
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
_START_IN: Final = 3.0
_FIND_TIMEOUT: Final = 30.0
_SHEET_TIMEOUT: Final = 60.0
_KILL_AT: Final = 0.5
"""When in the recording servers die that are to die."""
_SHEET_OFFSET: Final = 0.75
"""Offset of the contact sheet's instant in the common time span, in seconds."""
_IMPATIENT: Final = TakeLimits(
    clock_timeout=5.0,
    arm_timeout=15.0,
    start_timeout=15.0,
    stop_timeout=10.0,
    status_timeout=3.0,
    stall_timeout=10.0,
    cancel_timeout=40.0,
)
"""Shorter limits for ``--chaos``, so that killed servers do not delay the demo."""


class Demo:
    """One run of the demo, with ``count`` cameras.

    The take's ``parent`` is a new temporary directory if None. ``chaos`` gives servers deliberate faults.
    """

    def __init__(
        self,
        parent: Path | None,
        count: int,
        duration: float,
        output: Output,
        picture: TerminalPicture,
        *,
        chaos: bool,
    ) -> None:
        self.take: Take | None = None  # None before it exists
        self.faults: dict[str, str] = {}  # deliberate faults, by camera id
        self.sheet: Path | None = None  # the contact sheet
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
        """Run the demo to its end.

        Raises:
            ModuleNotFoundError: The extra ``server`` is not installed.
            RecordingError: A server did not start, for want of GStreamer perhaps.
            TimeoutError: Devices were not found.
        """
        await asyncio.to_thread(_require_servers)
        await require_gstreamer(TestPattern())
        view = self._view
        async with (
            live_view(view, self._output),
            self._servers() as parts,
            Session(interfaces=[LOOPBACK], poll_interval=None) as session,
        ):
            view.step("find", "the MultiCam phones by mDNS, all others by their addresses")
            with session.subscribe(view.handle, CameraFound):
                cameras, mortal = await self._find(session, parts)
            directory = self._parent
            if directory is None:
                directory = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="asynccam-demo-"))
            self.take = session.new_take(
                cameras, directory, name=f"demo-{self._suffix}", limits=self._limits, verify=verify_file
            )
            await self._play(session, self.take, mortal)
            view.step("align", "making a contact sheet of all cameras at the same instant")
            self.sheet = await contact_sheet(self.take)
            view.finish()

    async def _play(self, session: Session, take: Take, mortal: Sequence[ServerProcess]) -> None:
        """Record the take while servers are killed as planned."""
        hub = session.events
        with hub.stream(TakePhaseChanged) as phases, hub.stream(TakePhaseChanged) as signs:
            async with TaskScope("demo") as scope:
                scope.spawn(self.picture.watch(self._view, phases), name="picture")
                scope.spawn(self._kill(mortal, signs), name="kill")
                await run_with_view(session, take, self._view)

    @asynccontextmanager
    async def _servers(self) -> AsyncIterator[list[DemoServer]]:
        """Run the servers for the block; delete their files afterwards."""
        view = self._view
        place = await asyncio.to_thread(tempfile.TemporaryDirectory, prefix="asynccam-devices-")
        try:
            parts = demo_servers(self._count, Path(place.name), self._suffix, chaos=self._chaos)
            keys = {part.server.name: _keys(part) for part in parts}
            for part in parts:
                for key in keys[part.server.name]:
                    view.add(key, "…", "starting")
            view.step("serve", f"starting {len(parts)} servers of five systems, each a process of its own")

            def up(server: ServerProcess) -> None:
                for key in keys[server.name]:
                    view.set_state(key, "listening")

            async with running_servers([part.server for part in parts], up):
                yield parts
        finally:
            await asyncio.to_thread(place.cleanup)

    async def _find(
        self, session: Session, parts: Sequence[DemoServer]
    ) -> tuple[list[Camera], list[ServerProcess]]:
        """Return all cameras in the order of the servers, and the servers to kill."""
        async with deadline(_FIND_TIMEOUT, f"{formatting.count_cameras(self._count)} on {LOOPBACK}"):
            jobs = {part.server.name: _connect(session, part) for part in parts if part.system != "multicam"}
            phones = [part.server.name for part in parts if part.system == "multicam"]
            jobs["phones"] = _discover(session, phones)
            async with TaskScope("find") as scope:
                found = await scope.gather_all(jobs, name="find")
        found |= {one.info.serial: [one] for one in found.pop("phones")}
        cameras: list[Camera] = []
        for part in parts:
            for key, camera in zip(_keys(part), found[part.server.name], strict=True):
                cameras.append(camera)
                still = not camera.supports(Record)
                self._view.replace(key, camera.id, camera.info.name, still=still)
                self._view.set_state(camera.id, "found")
                if part.fault is not None:
                    self.faults[camera.id] = part.fault.description
        return cameras, [part.server for part in parts if part.fault is not None and part.fault.is_killed]

    async def _kill(self, servers: Sequence[ServerProcess], phases: AsyncIterator[TakePhaseChanged]) -> None:
        async for event in phases:
            if event.phase == "recording":
                await asyncio.sleep(_KILL_AT * self._view.duration)
                for server in servers:
                    await server.kill()
                return


async def contact_sheet(take: Take) -> Path | None:
    """Write a contact sheet of all cameras beside the manifest; return None if no instant is common."""
    times = await read_frame_times(take.manifest, take.directory, frame_times)
    alignment = align_take(take.manifest, times)
    if alignment.window is None:
        return None
    await alignment.save(take.directory)
    at = min(_SHEET_OFFSET, alignment.window.seconds / 2)
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
    """Check that the packages of all servers are installed, before any is started."""
    for module, extra in EXTRAS.items():
        if extra == "server" and find_spec(module) is None:
            raise ModuleNotFoundError(f"No module named {module!r}", name=module)


def _keys(part: DemoServer) -> list[str]:
    """Return placeholders for a server's cameras until they are connected."""
    return [f"{part.system}://{part.server.name}/{number}" for number in range(part.cameras)]


async def _connect(session: Session, part: DemoServer) -> list[Camera]:
    """Connect to all cameras of a server."""
    if part.system == "mediamtx":
        # As a person would say where the file server is.
        os.environ["MEDIAMTX_HTTP_PORT"] = str(part.server.facts["http_port"])
    if part.system == "nanocam":
        return [await session.connect(part.address)]
    behind = await session.list_cameras(part.address, credentials=part.credentials)
    return await session.connect_all([info.address for info in behind], credentials=part.credentials)


async def _discover(session: Session, names: Sequence[str]) -> list[Camera]:
    """Wait until all named phones are discovered; ignore others on this computer."""
    if not names:
        return []
    wanted = [f"multicam://{name}" for name in names]
    with session.events.stream(CameraFound) as arrivals:
        await session.discover(systems=["multicam"], timeout=_FIND_TIMEOUT, count=len(wanted))
        while not session.cameras.keys() >= set(wanted):
            await anext(arrivals)
    return [session.cameras[one] for one in wanted]
