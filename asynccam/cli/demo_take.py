"""The demo itself: device servers as processes, found by mDNS, recorded together, looked into."""

import asyncio
import secrets
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from asynccam.cli import words
from asynccam.cli.children import DeviceProcess, running
from asynccam.cli.demo import PLACES
from asynccam.cli.gstreamer import require_gstreamer
from asynccam.cli.live import drawn
from asynccam.cli.opening import open_session
from asynccam.cli.output import Output
from asynccam.cli.picture import Picture
from asynccam.cli.report import take_report
from asynccam.cli.taking import follow, tell
from asynccam.cli.view import TakeView
from asynccam.model.camera import Camera
from asynccam.model.events import CameraFound, TakePhaseChanged
from asynccam.recording import TestPattern, verify_file
from asynccam.runtime.tasks import TaskScope
from asynccam.runtime.timing import deadline
from asynccam.session import Session
from asynccam.take import Take

_LOOPBACK: Final = "127.0.0.1"
_START_IN: Final = 3.0
_FIND_TIMEOUT: Final = 20.0
_PATTERNS: Final = ("ball", "smpte", "circular")


async def run_demo(
    parent: Path | None, count: int, duration: float, output: Output, picture: Picture
) -> Take:
    """Record device servers of this computer's own, and give the ended take as the result.

    Args:
        parent: Where the take goes; a new temporary directory if None.
        count: How many devices, at most as many as there are `PLACES`.
        duration: Seconds.
        output: Where progress and the result go.
        picture: Gets what a person sees of it.

    Returns:
        The take, ended.

    Raises:
        RecordingError: A device did not start, for want of GStreamer perhaps.
        TimeoutError: Devices were not found.
    """
    await require_gstreamer(TestPattern())
    # The suffix keeps devices of other demos on this computer out of the take.
    suffix = secrets.token_hex(2)
    ids = [f"demo-{place}-{suffix}" for place in PLACES[:count]]
    view = TakeView("asynccam demo", duration=duration, start_in=_START_IN, before=("serve", "find"))
    for one in ids:
        view.add(f"multicam://{one}", one, "starting")
    view.step("serve", f"starting {words.cameras(count)}, each a process of its own")
    take: Take | None = None
    try:
        async with drawn(view, output), _devices(ids, view), open_session([_LOOPBACK]) as session:
            view.step("find", "looking for them by mDNS on the loopback interface")
            with session.subscribe(view.handle, CameraFound):
                cameras = await _find(session, ids)
            directory = parent or Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="asynccam-demo-"))
            take = session.new_take(cameras, directory, name=f"demo-{suffix}", verify=verify_file)
            with session.events.events(TakePhaseChanged) as phases:
                async with TaskScope("picture") as scope:
                    scope.spawn(picture.watch(view, phases), name="watch")
                    await follow(session, take, view)
    finally:
        if take is not None:
            tell(take, output)
    picture.add(view, take_report(take.manifest, take.directory))
    return take


@asynccontextmanager
async def _devices(ids: Sequence[str], view: TakeView) -> AsyncIterator[None]:
    """Device servers for the block, each with its own picture; what they recorded goes with them."""
    place = await asyncio.to_thread(tempfile.TemporaryDirectory, prefix="asynccam-devices-")
    try:
        devices = [
            DeviceProcess(
                one,
                Path(place.name, one),
                ("--pattern", _PATTERNS[number % len(_PATTERNS)], "--interface", _LOOPBACK),
            )
            for number, one in enumerate(ids)
        ]
        async with running(devices, lambda one: view.say(f"multicam://{one}", "listening")):
            yield
    finally:
        await asyncio.to_thread(place.cleanup)


async def _find(session: Session, ids: Sequence[str]) -> list[Camera]:
    """Wait until all of the devices have been found; others on this computer are passed over."""
    wanted = [f"multicam://{one}" for one in ids]
    async with deadline(_FIND_TIMEOUT, f"mDNS answer on {_LOOPBACK} from all of {', '.join(ids)}"):
        with session.events.events(CameraFound) as arrivals:
            await session.discover(systems=["multicam"], timeout=_FIND_TIMEOUT, count=len(wanted))
            while not session.cameras.keys() >= set(wanted):
                await anext(arrivals)
    return [session.cameras[one] for one in wanted]
