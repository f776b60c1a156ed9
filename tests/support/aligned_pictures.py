"""A take over servers of all five systems, and the time of day in their pictures where `align` points."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from asynccam.cli.demo.cameras import DemoServer, demo_servers
from asynccam.cli.subprocess_server import running_servers
from asynccam.model.camera import Camera
from asynccam.model.manifest import Manifest
from asynccam.recording import frame_times, verify_file
from asynccam.session import Session
from asynccam.take import Take, align_take, read_frame_times
from tests.support.day_codes import pictures_of, put_right, read_time

INSTANTS = 5
CODE_STEP = 1e-3


@dataclass(frozen=True)
class Seen:
    """One picture beside what is stated of it.

    Attributes:
        system: Whose it is.
        instant: What `align` was asked for, Unix seconds; of a still, the middle of what is stated.
        claimed: When the picture was made, as stated.
        bound: What is stated for the picture to be off from the instant.
        frame_bound: What is stated for the picture's own time.
        interval: Seconds between two of its frames, 0 for a still.
        shown: The time of day in the picture, without what its code was late (see `put_right`), or None.
    """

    system: str
    instant: float
    claimed: float
    bound: float
    frame_bound: float
    interval: float
    shown: float | None

    @property
    def error(self) -> float:
        """Shown minus the instant that was asked for; 0 if nothing is shown."""
        return 0.0 if self.shown is None else self.shown - self.instant

    @property
    def frame_error(self) -> float:
        """Shown minus the time that is stated for this picture; 0 if nothing is shown."""
        return 0.0 if self.shown is None else self.shown - self.claimed

    @property
    def code_bound(self) -> float:
        """Return what the time code itself may be off.

        It is cut to whole milliseconds. Where a server has not found out yet how late its code is, it may be
        late by more: one frame is allowed for that.
        """
        return CODE_STEP + self.interval


@asynccontextmanager
async def cameras_of_all_systems(place: Path) -> AsyncIterator[list[Camera]]:
    """Servers of all five systems as processes, and their cameras."""
    parts = demo_servers(5, place, f"pictures-{os.getpid()}", chaos=False)
    async with running_servers([part.server for part in parts]), Session(interfaces=["127.0.0.1"]) as session:
        yield [camera for part in parts for camera in await _connect(session, part)]


async def _connect(session: Session, part: DemoServer) -> list[Camera]:
    if part.system == "mediamtx":
        os.environ["MEDIAMTX_HTTP_PORT"] = str(part.server.facts["http_port"])
    if part.system in ("multicam", "nanocam"):
        return [await session.connect(part.address)]
    behind = await session.list_cameras(part.address, credentials=part.credentials)
    return await session.connect_all([info.address for info in behind], credentials=part.credentials)


async def record(place: Path, *, duration: float = 4.0) -> tuple[Manifest, Path]:
    """A take over all five systems."""
    async with cameras_of_all_systems(place / "devices") as cameras:
        take = await Take(cameras, place / "takes", verify=verify_file).run(duration=duration, start_in=3.0)
    return take.manifest, take.directory


async def look(manifest: Manifest, directory: Path) -> list[Seen]:
    """The pictures at several instants of the window that all cameras share, and the still ones."""
    times = await read_frame_times(manifest, directory, frame_times)
    alignment = align_take(manifest, times)
    assert alignment.window is not None, [camera.problem for camera in alignment.cameras]
    begins, seconds = alignment.window.begins_at.unix, alignment.window.seconds
    points = [
        (begins + at, alignment.at(at, times))
        # Not at the very beginning: the first pictures have dashes in place of a time.
        for at in (seconds * (number + 1.5) / (INSTANTS + 1) for number in range(INSTANTS))
    ]
    found: list[Seen] = []
    for camera, known in zip(alignment.cameras, manifest.cameras, strict=True):
        if known.kind == "still":
            found += await _stills(known.system, manifest, directory)
            continue
        films = {file.path: await _times_shown(directory / file.path, begins) for file in camera.files}
        for instant, places in points:
            point = places[camera.id]
            assert point is not None, camera
            assert point.frame is not None, camera
            timed = times[camera.id].files[[file.path for file in camera.files].index(point.file)]
            frame = timed.frame(point.frame)
            found.append(
                Seen(
                    known.system,
                    instant,
                    frame.at,
                    camera.cut_bound or 0.0,
                    frame.bound,
                    camera.frame_interval,
                    films[point.file][point.frame],
                )
            )
    return found


async def _times_shown(path: Path, near: float) -> list[float | None]:
    width, pictures = await pictures_of(path)
    return put_right([read_time(picture, width, near=near) for picture in pictures])


async def _stills(system: str, manifest: Manifest, directory: Path) -> list[Seen]:
    found: list[Seen] = []
    for known in manifest.cameras:
        if known.system != system or known.first_frame_at is None:
            continue
        for file in known.files:
            width, pictures = await pictures_of(directory / (file.path or ""))
            at, bound = known.first_frame_at.unix, known.first_frame_bound or 0.0
            found.append(Seen(system, at, at, bound, bound, 0.0, read_time(pictures[0], width, near=at)))
    return found
