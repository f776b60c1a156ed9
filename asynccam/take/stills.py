"""A camera that takes pictures and no video, in a take: one picture at T0. See docs/take.md."""

import asyncio
import itertools
from contextlib import suppress
from pathlib import Path
from typing import Final

from asynccam.errors import ConnectionError, DamagedFileError, DeviceError, RecordingError, StateError
from asynccam.model.camera import Camera
from asynccam.model.features import (
    AnswerMeaning,
    ArmedStart,
    ReadsPictures,
    RecordPlan,
    Snapshot,
    StartReport,
    StopReport,
)
from asynccam.model.info import CameraState, LocalFile, MediaFile
from asynccam.model.manifest import VerdictRecord
from asynccam.runtime.disk import on_disk, rename_new, storage_errors
from asynccam.runtime.tasks import TaskScope
from asynccam.wall_clock import unix_now

_TAKEN: Final = "picture taken"


class SnapshotRecord:
    """Stands in a take for the `Record` feature of a camera that has only `Snapshot`.

    The start asks for one picture and is answered once that is home; the stop only names it.

    Args:
        camera: The camera; only its common interface is used.
    """

    def __init__(self, camera: Camera) -> None:
        self._camera = camera
        self._picture: LocalFile | None = None
        self._verdict: VerdictRecord | None = None

    async def arm(self, plan: RecordPlan) -> ArmedStart:
        """See that the camera answers.

        Raises:
            ConnectionError: Whoever answers for the camera says that it is away.
            DeviceError: It says that it is in trouble.
            AsynccamError: Nobody answers, see `Camera.status`.
        """
        status = await self._camera.status()
        if status.state is CameraState.AWAY:
            raise ConnectionError(f"{self._camera.id} is away: {status.detail}")
        if status.state is CameraState.ERROR:
            raise DeviceError(f"{self._camera.id} is in trouble: {status.detail}", status=status.detail)
        return _ArmedPicture(self, plan.directory)

    async def stop(self, *, timeout: float = 60.0) -> StopReport:
        """Name the picture.

        Raises:
            RecordingError: There is none.
        """
        now = unix_now()
        if self._picture is None:
            raise RecordingError(f"{self._camera.id} has taken no picture")
        picture = self._picture
        file = MediaFile(picture.source or picture.path.name, picture.size, path=picture.path)
        return StopReport(now, now, _TAKEN, (file,))

    @property
    def verdict(self) -> VerdictRecord | None:
        """What is known of the picture because it was read on its way here, or None."""
        return self._verdict

    async def take(self, directory: Path) -> None:
        """Take the picture and bring it home; one that is broken is kept, as a broken video is.

        Raises:
            AsynccamError: There is none, see `asynccam.model.features.SupportsSnapshot`.
        """
        camera = self._camera.feature(Snapshot)
        try:
            self._picture = await camera.snapshot(directory)
        except DamagedFileError as error:
            if error.part is None:
                raise
            path = await on_disk(_with_its_name, error.part)
            self._picture = LocalFile(path, error.received)
            self._verdict = VerdictRecord(verdict=error.verdict, frames=0, detail=str(error))
            return
        if isinstance(camera, ReadsPictures):
            self._verdict = VerdictRecord(verdict="complete", frames=1)


class _ArmedPicture:
    """A picture that waits for its moment."""

    def __init__(self, still: SnapshotRecord, directory: Path) -> None:
        self._still = still
        self._directory = directory
        # A picture that fails is told by `accepted`, and by nobody else.
        self._scope = TaskScope("picture", on_failure=lambda name, error: None)
        self._commanded_at = 0.0
        self._taking: asyncio.Task[float] | None = None

    def release(self, at: float | None) -> None:
        """Ask for the picture; never waits."""
        self._commanded_at = unix_now()
        self._taking = self._scope.spawn(self._take(), name="take")

    async def accepted(self) -> StartReport:
        """Wait for the picture; all that is known is that it was taken between command and arrival."""
        if self._taking is None:
            raise StateError("a picture is waited for that was not asked for")
        await asyncio.wait({self._taking})
        arrived_at = self._taking.result()
        half = (arrived_at - self._commanded_at) / 2
        return StartReport(
            self._commanded_at,
            arrived_at,
            _TAKEN,
            first_frame_at=self._commanded_at + half,
            first_frame_bound=half,
            meaning=AnswerMeaning.RECORDING,
        )

    async def aclose(self) -> None:
        """Give up a picture that has not come."""
        await self._scope.aclose()

    async def _take(self) -> float:
        await self._still.take(self._directory)
        return unix_now()


def _with_its_name(part: Path) -> Path:
    """Give a part the name it would have had, in a thread; never over an existing file."""
    plain = part.with_suffix("") if part.suffix == ".part" else part
    with storage_errors("rename", part):
        for number in itertools.count():
            target = plain.with_stem(f"{plain.stem}-{number}") if number else plain
            with suppress(FileExistsError):
                rename_new(part, target)
                break
    return target
