"""Start and stop of a recording on this computer, in the terms all systems share."""

import asyncio
from typing import TYPE_CHECKING, Final

from asynccam.errors import BusyError, StateError, UsageError
from asynccam.model.features import RecordingGap, RecordPlan, StartReport, StopReport
from asynccam.model.info import MediaFile
from asynccam.recording import RecorderState, Verdict
from asynccam.runtime.tasks import TaskScope, finish
from asynccam.runtime.timing import deadline
from asynccam.systems.thorvision import models
from asynccam.systems.thorvision.results import OpenStream, StreamStart, StreamStop
from asynccam.systems.thorvision.stream_settings import prepare_recording
from asynccam.wall_clock import unix_now

if TYPE_CHECKING:
    from asynccam.systems.thorvision.camera import ThorVisionCamera

_ON_THE_WAY: Final = 0.05
"""Seconds that a frame may be older than SRT's latency tells, for what it takes to encode and to send it."""


_TAKEN_AWAY: Final = "another program seems to have taken the stream over"


class ThorVisionRecord:
    """`SupportsRecord` of one camera.

    Args:
        camera: Whose recordings these are.
    """

    def __init__(self, camera: "ThorVisionCamera") -> None:
        self._camera = camera
        self._device: models.Camera | None = None  # as it was when its stream was opened

    @property
    def recorder_state(self) -> RecorderState | None:
        """Where the recorder stands, or None."""
        return None if self._device is None else self._camera.client.recorder_state(self._device.id)

    async def open(self) -> OpenStream:
        """Have the server send the camera's stream; the one there is if it does already."""
        device = await self._camera.find()
        if self._streaming and self._device is not None and self._device.id != device.id:
            await self._end()  # it was unplugged meanwhile, and has another number
        opened = await self._camera.client.open_stream(device, self._camera.chosen_capability())
        self._device = device
        return opened

    async def arm(self, plan: RecordPlan) -> "ThorVisionStart":
        """Have the server stream and a recorder take what comes; only nothing is kept before the release.

        Raises:
            BusyError: The camera is being recorded by this client.
            NotFoundError: It is unplugged.
            RecordingError, StorageError: This computer cannot record.
            AsynccamError: The server cannot be asked or refuses, see `ThorVisionClient.open_stream`.
        """
        state = self.recorder_state
        if state not in (None, RecorderState.ENDED, RecorderState.FAILED):
            raise BusyError(f"{self._camera.id} is being recorded; stop that first")
        await prepare_recording(plan.directory, self._camera.split)
        if state is not None:
            await self._end()
        await self.open()
        assert self._device is not None
        try:
            await self._camera.client.arm_recording(
                self._device,
                self._camera.chosen_capability(),
                output_dir=plan.directory,
                split=self._camera.split,
            )
        except BaseException:
            await finish(self.aclose())
            raise
        return ThorVisionStart(self, plan)

    async def start(self, plan: RecordPlan) -> StreamStart:
        """Record into the plan's directory; returns at the first frame."""
        assert self._device is not None
        split = self._camera.split
        async with deadline(plan.timeout, f"first frame of {self._camera.id}"):
            return await self._camera.client.start_stream_with_recording(
                self._device,
                self._camera.chosen_capability(),
                output_dir=plan.directory,
                split_max_files=split.max_files,
                split_max_time_sec=split.max_seconds,
                split_max_size_mb=split.max_megabytes,
            )

    async def stop(self, *, timeout: float = 60.0) -> StopReport:
        """Finish the files, then the server's stream.

        A recording that had ended by itself, or a server that did not answer, is in the report's status:
        the files are what counts.

        Raises:
            StateError: Nothing is being recorded.
            TimeoutError: It took longer; it is done nevertheless.
        """
        async with deadline(timeout, f"end of the recording of {self._camera.id}"):
            stopped = await self._end()
        why = f"no frame came; {_TAKEN_AWAY}" if stopped.taken_away else "no frame came"
        at, bound = self.made_at(stopped.first_frame_at, stopped.first_frame_bound)
        return StopReport(
            commanded_at=stopped.commanded_at,
            stopped_at=stopped.stopped_at,
            status=_status(stopped),
            files=tuple(
                MediaFile(one.path.name, one.size, path=one.path, verdict=one) for one in stopped.files
            ),
            first_frame_at=at,
            first_frame_bound=bound,
            gaps=tuple(
                RecordingGap(gap.began, gap.ended if gap.resumed else None, gap.restarted, why)
                for gap in stopped.gaps
            ),
            ended_early=stopped.ended_early,
            begins_late=stopped.begins_late,
            spoiled_frames=stopped.spoiled_frames,
        )

    async def stop_orphaned_recording(self, *, timeout: float = 60.0) -> None:
        """End the server's stream that a client which died had it send; the recorder died with that client.

        Raises:
            NotFoundError: The camera is unplugged.
            TimeoutError, AsynccamError: The server cannot be asked.
        """
        if not self._streaming:
            async with deadline(timeout, f"end of the stream of {self._camera.id}"):
                await self._camera.client.end_leftover(await self._camera.find())

    @property
    def took_over(self) -> str:
        """What somebody else lost when the stream was opened, or ``""``."""
        if self._device is None or not self._camera.client.took_over(self._device.id):
            return ""
        return f"{self._camera.id} was streaming for somebody else, whose stream was taken over"

    async def aclose(self) -> None:
        """End what there is to end; harmless when called twice."""
        if self._streaming:
            await self._end()

    def made_at(self, arrived_at: float | None, bound: float | None) -> tuple[float | None, float | None]:
        """When a frame that arrived then was made, and by how much that may be wrong.

        SRT hands every one on by its latency later. Encoder and network make it older than that by up to
        `_ON_THE_WAY`, and never younger, so the middle of what is possible is earlier by half of that.
        """
        at = None if arrived_at is None else arrived_at - self._latency - _ON_THE_WAY / 2
        return at, None if bound is None else bound + _ON_THE_WAY / 2

    @property
    def _latency(self) -> float:
        return self._camera.client.settings.latency / 1000

    @property
    def _streaming(self) -> bool:
        return self._device is not None and self._device.id in self._camera.client.streams

    async def _end(self) -> StreamStop:
        if self._device is None:
            raise StateError(f"{self._camera.id} is not being recorded")
        return await self._camera.client.stop_stream(self._device.id)


class ThorVisionStart:
    """`ArmedStart` of one camera: its frames come, and are thrown away until it is let go.

    Args:
        record: Whose start it is.
        plan: Where the files go, and how long things may take.
    """

    def __init__(self, record: ThorVisionRecord, plan: RecordPlan) -> None:
        self._record = record
        self._plan = plan
        self._scope = TaskScope("armed start")
        self._starting: asyncio.Task[StreamStart] | None = None
        self._released_at = 0.0
        self._over = False

    @property
    def took_over(self) -> str:
        """What somebody else lost by this being armed, or ``""``."""
        return self._record.took_over

    def release(self, at: float | None) -> None:
        """Record from the next frame of the server on; what goes wrong is told by `accepted`.

        Args:
            at: Always None: there is no scheduled start.

        Raises:
            UsageError: ``at`` is a time.
            StateError: It was released or closed before.
        """
        if at is not None:
            raise UsageError("a ThorVision camera starts at once; it has no scheduled start")
        if self._over or self._starting is not None:
            raise StateError("this start was let go or closed before")
        self._released_at = unix_now()
        self._starting = self._scope.spawn(self._record.start(self._plan), name="recorder")

    async def accepted(self) -> StartReport:
        """Wait for the first frame.

        Raises:
            RecordingError, TimeoutError: No frame came.
            StorageError: The files cannot be written.
            StateError: `release` was not called, or the start was closed meanwhile.
            AsynccamError: The server went away or refuses.
        """
        if self._starting is None:
            raise StateError("this start was not let go")
        await asyncio.wait({self._starting})
        if self._starting.cancelled():
            raise StateError("this start was closed before the first frame")
        started = self._starting.result()
        at, bound = self._record.made_at(started.first_frame_at, started.first_frame_bound)
        return StartReport(
            commanded_at=self._released_at,
            accepted_at=started.accepted_at,
            status=RecorderState.RECORDING.value,
            first_frame_at=at,
            first_frame_bound=bound,
        )

    async def aclose(self) -> None:
        """Let go of a start that did not lead to a recording; harmless otherwise, and when called twice."""
        if self._over:
            return
        self._over = True
        await self._scope.aclose()
        if self._starting is None or self._starting.cancelled() or self._starting.exception():
            await self._record.aclose()


def _status(stopped: StreamStop) -> str:
    flawed = [one for one in stopped.files if one.verdict is not Verdict.COMPLETE]
    words = [f"{one.path.name}: {one.verdict.value}" for one in flawed] or ["complete"]
    if stopped.error is not None:
        words.append(f"ended early: {stopped.error}")
    elif stopped.ended_early is not None:
        words.append(f"ended early: {stopped.ended_early.reason}")
    if stopped.taken_away:
        words.append(_TAKEN_AWAY)
    if stopped.begins_late is not None:
        words.append(f"begins late: {stopped.begins_late.reason}")
    if stopped.server_error is not None:
        words.append(f"the server may still stream: {stopped.server_error}")
    return "; ".join(words)
