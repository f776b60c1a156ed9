"""The recorder of a MultiCam device that nobody gave another one: GStreamer to MP4."""

import logging
from pathlib import Path
from typing import Final

from asynccam.errors import RecordingError, StateError
from asynccam.recording.events import RecorderState
from asynccam.recording.outputs import SingleFile
from asynccam.recording.pipeline import Pipeline
from asynccam.recording.recorder import Recorder
from asynccam.recording.sources import Source
from asynccam.recording.verify import FileVerdict
from asynccam.runtime.tasks import finish

_LOG = logging.getLogger(__name__)
_ENCODING: Final = 0.05
"""Seconds by which a frame may be older than its arrival at the muxer tells, for what it takes to encode it
on a computer that is busy. Assumed."""
_FIRST_FRAME: Final = 15.0
"""Seconds a camera may take to open."""


class GstRecorder:
    """A `RecorderHook`, `ArmsAhead` too, that records a GStreamer source in a process of its own.

    Args:
        source: A `V4l2Source` or `TestPattern`, for example; a new process opens it for each recording.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._armed: tuple[Path, Recorder] | None = None
        self._recorder: Recorder | None = None

    async def arm(self, path: Path) -> None:
        """Open the camera for a start that comes soon; returns when it gives frames, which are thrown away.

        Raises:
            RecordingError, TimeoutError, StorageError: As for `start`; then nothing is left.
        """
        await self.disarm()
        recorder = self._recorder_for(path)
        try:
            await recorder.arm(timeout=_FIRST_FRAME)
        except BaseException:
            await finish(recorder.aclose())
            raise
        self._armed = path, recorder

    async def disarm(self) -> None:
        """Forget a start that was armed: neither a process nor a file is left; harmless without one."""
        armed, self._armed = self._armed, None
        if armed is not None:
            await finish(armed[1].aclose())

    async def start(self, path: Path) -> float:
        """Record into ``path``; returns at the first frame, with its time.

        What was armed for this path is used, unless its camera has gone meanwhile: then it is opened anew.

        Raises:
            RecordingError: GStreamer or an element is missing, or the camera did not open.
            TimeoutError: No frame came.
            StorageError: The file cannot be written.
        """
        if self._armed is not None and self._armed[0] == path and self._armed[1].state is RecorderState.ARMED:
            recorder, self._armed = self._armed[1], None
            try:
                return await self._begin(recorder)
            except RecordingError as error:
                _LOG.warning("%s: the camera went while it waited, and is opened anew: %s", path.name, error)
        await self.disarm()
        return await self._begin(self._recorder_for(path))

    async def stop(self) -> FileVerdict:
        """Finish the file, and say what it is worth.

        Raises:
            RecordingError: There is no file.
            StateError: Nothing was started.
        """
        recorder, self._recorder = self._running(), None
        try:
            verdicts = await recorder.stop()
        finally:
            await finish(recorder.aclose())
        if not verdicts:
            raise RecordingError(f"{recorder.name}: {recorder.error or 'no file was written'}")
        return verdicts[-1]

    @property
    def first_frame_bound(self) -> float:
        """Seconds by which the time of the first frame may be wrong: as the recorder states, and encoding."""
        return self._running().first_frame_bound + _ENCODING

    async def ended(self) -> str:
        """Wait until the recording ends by itself, and say why.

        Raises:
            StateError: Nothing was started.
        """
        recorder = self._running()
        await recorder.wait()
        return str(recorder.error or "the source has ended")

    async def _begin(self, recorder: Recorder) -> float:
        try:
            first_frame_at = await recorder.start(timeout=_FIRST_FRAME)
        except BaseException:
            await finish(recorder.aclose())
            raise
        self._recorder = recorder
        return first_frame_at

    def _recorder_for(self, path: Path) -> Recorder:
        return Recorder(Pipeline(self._source, SingleFile(path)), name=path.name)

    def _running(self) -> Recorder:
        if self._recorder is None:
            raise StateError("nothing is being recorded")
        return self._recorder
