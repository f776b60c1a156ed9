"""Remote methods about cameras: list, status, pictures, recordings. See docs/protocols/mediamtx.md."""

import asyncio
from typing import Final

from asynccam.errors import TimeoutError, UsageError
from asynccam.systems.mediamtx.asking import Asking, given, one_device
from asynccam.systems.mediamtx.errors import ConnectionError, MediaMTXError, UnsupportedError
from asynccam.systems.mediamtx.models import CameraInfo, CameraList, RecordingInfo, Report, SnapshotInfo
from asynccam.systems.mediamtx.state_cache import UNKNOWN
from asynccam.systems.mediamtx.stop_timers import TimedStops

_FAILED: Final = ("FAILED", "ERROR")


class CameraMethods(Asking):
    """The methods about cameras; part of `CameraClient`.

    Each camera is named by its ``device_path``, which may also be given as ``device``. All of them
    raise `CameraServiceError` for what the service refuses (`CameraNotFoundError`, `MediaMTXError`,
    `PermissionDeniedError` and so on), its `ConnectionError` for a lost connection, `TimeoutError` for
    a deadline that passed and `RemoteProtocolError` for an answer of another shape.
    """

    _timed: TimedStops

    async def get_camera_list(self) -> list[CameraInfo]:
        """All cameras of the service."""
        answer = await self._read(CameraList, "get_camera_list")
        self._learned(self._roster.listed(answer.cameras))
        return answer.cameras

    async def get_camera_status(self, device_path: str = "", *, device: str = "") -> CameraInfo:
        """One camera; generation 1 answers ``DISCONNECTED`` for a camera it does not know."""
        return await self._read(CameraInfo, "get_camera_status", {"device": one_device(device_path, device)})

    async def get_camera_capabilities(self, device_path: str = "", *, device: str = "") -> Report:
        """Formats and resolutions of one camera."""
        return await self._read(
            Report, "get_camera_capabilities", {"device": one_device(device_path, device)}
        )

    async def take_snapshot(
        self,
        device_path: str = "",
        filename: str | None = None,
        *,
        device: str = "",
        timeout: float | None = None,
    ) -> SnapshotInfo:
        """Take a picture; it stays on the service, `download_snapshot` brings it home.

        Args:
            device_path: The camera.
            filename: The service's name for the picture, or None for its own choice.
            device: The camera, by the argument's other name.
            timeout: Seconds instead of the client's.

        Raises:
            MediaMTXError: The service answered that it failed.
        """
        camera = one_device(device_path, device)
        answer = await self._change(
            SnapshotInfo, "take_snapshot", given(device=camera, filename=filename), timeout=timeout
        )
        if answer.status.upper() in _FAILED:
            why = (answer.model_extra or {}).get("error") or (answer.model_extra or {}).get("message")
            raise MediaMTXError(
                f"take_snapshot: {camera} gave no picture{f': {why}' if why else ''}",
                data=answer.model_dump(),
                method="take_snapshot",
            )
        return answer

    async def start_recording(
        self,
        device_path: str = "",
        filename: str | None = None,
        *,
        device: str = "",
        duration: float | None = None,
        format: str | None = None,  # noqa: A002 - the service's own name for it
        timeout: float | None = None,
    ) -> RecordingInfo:
        """Start a recording; never sent twice by the client.

        Args:
            device_path: The camera.
            filename: Passed on if given; released services choose the name themselves.
            device: The camera, by the argument's other name.
            duration: Seconds after which it ends. The service of generation 1 gets a camera stuck when it
                ends a recording by itself, so there the client sends the stop at the right time, or
                when it is disconnected, if that comes first.
            format: Of the file, ``mp4`` for example.
            timeout: Seconds instead of the client's.

        Raises:
            CameraBusyError: The camera records already.
        """
        camera = one_device(device_path, device)
        if duration is not None and duration <= 0:
            raise UsageError(f"a recording of {duration} s cannot be")
        by_hand = duration is not None and self._facts.generation == 1
        wanted = given(
            device=camera, filename=filename, duration=None if by_hand else duration, format=format
        )
        try:
            answer = await self._change(RecordingInfo, "start_recording", wanted, timeout=timeout)
        except (ConnectionError, TimeoutError) as error:
            if error.maybe_executed:
                self._learned(self._roster.start_lost(camera))
            raise
        except asyncio.CancelledError:
            self._learned(self._roster.start_lost(camera))
            raise
        self._learned(self._roster.recorded(answer.of(camera)))
        answer = self._identified(answer, camera)
        if by_hand and duration is not None:
            self._timed.stop_after(camera, duration)
        return answer

    async def stop_recording(
        self, device_path: str = "", *, device: str = "", timeout: float | None = None
    ) -> RecordingInfo:
        """Stop the recording and learn its file; never sent twice by the client."""
        camera = one_device(device_path, device)
        self._timed.cancel(camera)
        answer = await self._change(RecordingInfo, "stop_recording", {"device": camera}, timeout=timeout)
        self._learned(self._roster.recorded(answer.of(camera)))
        return self._identified(answer, camera)

    async def get_recording_status(self, device_path: str = "", *, device: str = "") -> RecordingInfo:
        """The camera's present or last recording.

        No service of generation 1 has this method. The answer is then what notifications, starts and
        stops told, with status ``UNKNOWN`` if nothing did since the connection was made.
        """
        camera = one_device(device_path, device)
        method = "get_recording_status"
        if method not in self._facts.missing:
            try:
                answer = await self._read(RecordingInfo, method, {"device": camera})
                return self._roster.identified(answer.of(camera))
            except UnsupportedError:
                if method not in self._facts.missing:
                    raise
        known = self._roster.recordings.get(camera)
        if known is not None:
            return known
        info = await self.get_camera_status(camera)
        return RecordingInfo(device=info.device or camera, status=UNKNOWN)

    def _identified(self, answer: RecordingInfo, camera: str) -> RecordingInfo:
        """The answer as it came, under the id that its recording is known by."""
        known = self._roster.recordings.get(answer.device or camera)
        return answer if known is None or not known.recording_id else answer.known_as(known.recording_id)
