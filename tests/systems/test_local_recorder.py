"""The armed start of a recorder on this computer: in order, out of order, failed and cancelled."""

import asyncio
from dataclasses import dataclass, field

import pytest

from asynccam.errors import RecordingError, StateError, UsageError
from asynccam.model.features import StartReport
from asynccam.model.info import CameraState
from asynccam.recording import RecorderState
from asynccam.systems._local_recorder import LocalRecorderStart, camera_state
from tests.support.cancelling import cancelled_at
from tests.support.waiting import passes


@dataclass
class Recording:
    error: Exception | None = None
    first_frame: asyncio.Event = field(default_factory=asyncio.Event)
    discarded: int = 0

    async def start(self, released_at: float) -> StartReport:
        await self.first_frame.wait()
        if self.error is not None:
            raise self.error
        return StartReport(released_at, released_at)

    async def discard(self) -> None:
        await passes()
        self.discarded += 1

    def armed(self) -> LocalRecorderStart:
        return LocalRecorderStart("test", self.start, self.discard)


async def test_accepted_returns_the_report_and_keeps_the_recording() -> None:
    recording = Recording()
    armed = recording.armed()
    armed.release(None)
    recording.first_frame.set()
    assert (await armed.accepted()).commanded_at > 0
    await armed.aclose()
    assert recording.discarded == 0


async def test_calls_out_of_order() -> None:
    recording = Recording()
    armed = recording.armed()
    with pytest.raises(StateError, match="not released"):
        await armed.accepted()
    with pytest.raises(UsageError, match="a test camera starts at once"):
        armed.release(1.0)
    armed.release(None)
    with pytest.raises(StateError, match="released or closed before"):
        armed.release(None)
    await armed.aclose()
    await armed.aclose()
    assert recording.discarded == 1
    with pytest.raises(StateError, match="closed before the first frame"):
        await armed.accepted()


async def test_failed_start_is_raised_and_discarded() -> None:
    recording = Recording(RecordingError("no frame"))
    recording.first_frame.set()
    armed = recording.armed()
    armed.release(None)
    with pytest.raises(RecordingError, match="no frame"):
        await armed.accepted()
    await armed.aclose()
    assert recording.discarded == 1


async def test_close_cancelled_at_each_await_still_discards() -> None:
    count = 1
    while True:
        recording = Recording()
        armed = recording.armed()
        armed.release(None)
        cancelled = await cancelled_at(armed.aclose(), count)
        assert recording.discarded == 1
        if not cancelled:
            break
        count += 1
    assert count > 1


@pytest.mark.parametrize(
    ("recorder", "state"),
    [
        (None, CameraState.READY),
        (RecorderState.ARMED, CameraState.READY),
        (RecorderState.STALLED, CameraState.RECORDING),
        (RecorderState.STOPPING, CameraState.STOPPING),
        (RecorderState.ENDED, CameraState.READY),
    ],
)
def test_camera_state(recorder: RecorderState | None, state: CameraState) -> None:
    assert camera_state(recorder) is state
