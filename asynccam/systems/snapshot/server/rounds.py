"""How pictures are taken: one, one of every camera, and stereo pairs."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from asynccam.errors import AsynccamError
from asynccam.runtime.disk import on_disk
from asynccam.runtime.tasks import TaskScope
from asynccam.systems.snapshot.server.backends.formats import JPEGS
from asynccam.systems.snapshot.server.capture import Backend, Exposure
from asynccam.systems.snapshot.server.exif import write_reading
from asynccam.systems.snapshot.server.imu import ImuFeed
from asynccam.systems.snapshot.server.models import Reading, Shot, ShotResult
from asynccam.systems.snapshot.server.pictures import BrokenPictureError, check_picture
from asynccam.systems.snapshot.server.queue import CaptureQueue, Ticket, device_key
from asynccam.systems.snapshot.server.settings import CameraConfig
from asynccam.systems.snapshot.server.standing import Standings, Watched
from asynccam.systems.snapshot.server.store import SnapshotStore
from asynccam.systems.snapshot.server.systemd import Services

_LOG = logging.getLogger(__name__)


@dataclass(slots=True)
class _Prepared:
    """One camera's part of a stereo capture.

    Attributes:
        camera: Which.
        part: Its file.
        held: What is let go of once the picture is taken.
        exposure: What was prepared.
        taken_at: The moment of the picture, once it is taken.
        reading: Where the camera looked then.
    """

    camera: CameraConfig
    part: Path
    held: AsyncExitStack
    exposure: Exposure
    taken_at: float = 0.0
    reading: Reading | None = None


class Rounds:
    """Takes pictures with what a service has; see `SnapshotService`."""

    def __init__(
        self,
        store: SnapshotStore,
        backend: Backend,
        services: Services,
        imu: ImuFeed | None,
        queue: CaptureQueue,
        standings: Standings,
    ) -> None:
        self._store = store
        self._backend = backend
        self._services = services
        self._imu = imu
        self._queue = queue
        self._standings = standings

    async def one(
        self, camera: CameraConfig, prefix: str, ticket: Ticket, *, interrupts: bool = True
    ) -> Shot:
        """One picture; ``interrupts`` says whether the camera's service is to be stopped here."""
        watched = self._standings.watch(camera.name)
        try:
            with ticket:
                shot = await self._one(camera, prefix, watched, interrupts=interrupts)
        except BaseException as error:
            watched.failed(in_words(error))
            raise
        watched.done(shot)
        return shot

    async def every(
        self, cameras: Sequence[CameraConfig], prefix: str, tickets: Sequence[Ticket]
    ) -> tuple[ShotResult, ...]:
        """One picture of every camera, each service stopped once for all of them."""
        async with self._interrupted(cameras) as refused, TaskScope("snapshot-all") as scope:
            results: dict[str, Shot | Exception] = dict(refused)
            for camera in cameras:
                if camera.name in refused:
                    self._standings.watch(camera.name).failed(in_words(refused[camera.name]))
            jobs = {
                camera.name: self.one(camera, prefix, ticket, interrupts=False)
                for camera, ticket in zip(cameras, tickets, strict=True)
                if camera.name not in refused
            }
            results |= await scope.gather(jobs, name="camera")
        return tuple(_result(camera.name, results[camera.name]) for camera in cameras)

    async def stereo(
        self, cameras: Sequence[CameraConfig], prefix: str, tickets: Sequence[Ticket]
    ) -> tuple[ShotResult, ...]:
        """Pictures with the least delay between: prepared first, fired together."""
        results: dict[str, Shot | Exception] = {}
        async with AsyncExitStack() as parts:
            watched = {camera.name: self._standings.watch(camera.name) for camera in cameras}
            try:
                taken = await self._expose(cameras, watched, results, parts)
                async with TaskScope("snapshot-stereo") as scope:
                    jobs = {one.camera.name: self._kept(one, prefix) for one in taken}
                    results |= await scope.gather(jobs, name="camera")
            finally:
                for camera in cameras:
                    result = results.get(camera.name)
                    if isinstance(result, Shot):
                        watched[camera.name].done(result)
                    else:
                        watched[camera.name].failed(in_words(result))
        return tuple(_result(camera.name, results[camera.name]) for camera in cameras)

    # -- within ---------------------------------------------------------------------------------

    async def _one(self, camera: CameraConfig, prefix: str, watched: Watched, *, interrupts: bool) -> Shot:
        device = await device_key(camera.device_path)
        async with AsyncExitStack() as slot:
            async with AsyncExitStack() as held:
                await held.enter_async_context(self._queue.device(device))
                await slot.enter_async_context(self._queue.slot())
                watched.started()
                part = await slot.enter_async_context(self._store.part())
                await held.enter_async_context(
                    self._services.interrupted(camera.interrupts if interrupts else "")
                )
                exposure, taken_at, reading = await self._whole(camera, part, held)
            await exposure.develop()
            return await self._keep(camera, prefix, part, taken_at, reading)

    async def _whole(
        self, camera: CameraConfig, part: Path, held: AsyncExitStack
    ) -> tuple[Exposure, float, Reading | None]:
        """Take a picture whose device and slot are held, and once more if the first is broken."""
        exposure = await held.enter_async_context(self._backend.prepare(camera, part))
        exposure.fire()
        try:
            taken_at = await self._came(camera, part, exposure)
        except BrokenPictureError as error:
            return await self._again(camera, part, held, error)
        return exposure, taken_at, self._reading(camera)

    async def _again(
        self, camera: CameraConfig, part: Path, held: AsyncExitStack, first: BrokenPictureError
    ) -> tuple[Exposure, float, Reading | None]:
        """Take the picture that replaces a broken one, with the same device and slot."""
        _LOG.warning("%s; the picture is taken once more", first)
        exposure = await held.enter_async_context(self._backend.prepare(camera, part))
        exposure.fire()
        try:
            taken_at = await self._came(camera, part, exposure)
        except BrokenPictureError as error:
            raise BrokenPictureError(f"{error} (at the second capture too)") from error
        return exposure, taken_at, self._reading(camera)

    async def _came(self, camera: CameraConfig, part: Path, exposure: Exposure) -> float:
        """Wait for a picture and read it; one that still has to be made of a raw frame is read later."""
        taken_at = await exposure.taken()
        if camera.pixel_format in JPEGS:
            await on_disk(check_picture, part, camera.device_path)
        return taken_at

    async def _expose(
        self,
        cameras: Sequence[CameraConfig],
        watched: Mapping[str, Watched],
        results: dict[str, Shot | Exception],
        parts: AsyncExitStack,
    ) -> list[_Prepared]:
        """Take the pictures, as many devices together as there are slots; what fails goes to ``results``."""
        chains: dict[str, list[CameraConfig]] = {}
        for camera in cameras:
            chains.setdefault(await device_key(camera.device_path), []).append(camera)
        devices = list(chains)
        taken: list[_Prepared] = []
        async with self._interrupted(cameras) as refused:
            results |= refused
            for start in range(0, len(devices), self._queue.at_once):
                batch = devices[start : start + self._queue.at_once]
                async with self._queue.several(batch), AsyncExitStack() as held:
                    ready = [
                        await self._prepared(chains[device], watched, results, parts, held)
                        for device in batch
                    ]
                    # In one go, without an await between: this is what all was prepared for.
                    for chain in ready:
                        if chain:
                            chain[0].exposure.fire()
                    async with TaskScope("snapshot-stereo") as scope:
                        jobs = {number: self._follow(chain, results) for number, chain in enumerate(ready)}
                        outcome = await scope.gather(jobs, name="device")
                    for one in outcome.values():
                        if isinstance(one, Exception):
                            raise one
                        taken += one
        return taken

    async def _prepared(
        self,
        chain: Sequence[CameraConfig],
        watched: Mapping[str, Watched],
        results: dict[str, Shot | Exception],
        parts: AsyncExitStack,
        held: AsyncExitStack,
    ) -> list[_Prepared]:
        ready = []
        for camera in chain:
            if camera.name in results:
                continue
            watched[camera.name].started()
            own = await held.enter_async_context(AsyncExitStack())
            try:
                part = await parts.enter_async_context(self._store.part())
                exposure = await own.enter_async_context(self._backend.prepare(camera, part, hold=True))
            except AsynccamError as error:
                results[camera.name] = error
            else:
                ready.append(_Prepared(camera, part, own, exposure))
        return ready

    async def _follow(
        self, chain: Sequence[_Prepared], results: dict[str, Shot | Exception]
    ) -> list[_Prepared]:
        """Wait for the first of a device, which was fired, and take the others after it."""
        taken = []
        for number, one in enumerate(chain):
            if number:
                one.exposure.fire()
            try:
                try:
                    one.taken_at = await self._came(one.camera, one.part, one.exposure)
                    one.reading = self._reading(one.camera)
                except BrokenPictureError as error:
                    again = await self._again(one.camera, one.part, one.held, error)
                    one.exposure, one.taken_at, one.reading = again
                await one.held.aclose()
            except AsynccamError as error:
                results[one.camera.name] = error
            else:
                taken.append(one)
        return taken

    async def _kept(self, one: _Prepared, prefix: str) -> Shot:
        await one.exposure.develop()
        return await self._keep(one.camera, prefix, one.part, one.taken_at, one.reading)

    async def _keep(
        self, camera: CameraConfig, prefix: str, part: Path, taken_at: float, reading: Reading | None
    ) -> Shot:
        if camera.pixel_format not in JPEGS:  # the others were read before their device was let go
            await on_disk(check_picture, part, camera.device_path)
        if reading is not None and not await on_disk(write_reading, part, reading):
            reading = None
        stored = await self._store.add(part, prefix=prefix, camera=camera.name, taken_at=taken_at, whole=True)
        return Shot(camera.name, stored.filename, stored.taken_at, stored.size, reading)

    def _reading(self, camera: CameraConfig) -> Reading | None:
        reading = None if self._imu is None else self._imu.reading()
        if reading is None:
            return None
        return reading.turned(camera.roll_offset, camera.pitch_offset, camera.yaw_offset)

    @asynccontextmanager
    async def _interrupted(self, cameras: Sequence[CameraConfig]) -> AsyncIterator[dict[str, Exception]]:
        """Keep every service of the cameras stopped; which cameras' cannot be, and why."""
        names = dict.fromkeys(camera.interrupts for camera in cameras if camera.interrupts)
        async with self._services.all_interrupted(names) as refused:
            yield {one.name: refused[one.interrupts] for one in cameras if one.interrupts in refused}


def in_words(error: BaseException | None) -> str:
    """Why there is no picture."""
    if error is None or isinstance(error, asyncio.CancelledError):
        return "the capture was given up"
    return str(error) or type(error).__name__


def _result(camera: str, outcome: Shot | Exception) -> ShotResult:
    if isinstance(outcome, Shot):
        return ShotResult(camera, outcome)
    if not isinstance(outcome, AsynccamError):
        _LOG.error("capture with %s failed", camera, exc_info=outcome)
    return ShotResult(camera, error=in_words(outcome))
