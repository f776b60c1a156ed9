"""Start and stop of a recording on the service, in the terms all systems share."""

import asyncio
import time
from collections.abc import Mapping
from typing import Final

from asynccam.errors import AsynccamError, StateError, TimeoutError, UsageError
from asynccam.model.events import CameraEvent, CameraFound, CameraLost, CameraStateChanged
from asynccam.model.features import (
    AnswerMeaning,
    ArmedStart,
    RecordingGap,
    RecordPlan,
    StartReport,
    StopReport,
)
from asynccam.model.identity import Identity
from asynccam.model.info import CameraState, MediaFile
from asynccam.runtime.event_hub import Subscription
from asynccam.runtime.timing import deadline
from asynccam.systems.mediamtx.client import CameraClient
from asynccam.systems.mediamtx.errors import CameraBusyError, CameraNotFoundError, ConnectionError
from asynccam.systems.mediamtx.files import RECORDINGS
from asynccam.systems.mediamtx.models import CameraInfo, RecordingInfo
from asynccam.systems.mediamtx.rpc import PostedCall
from asynccam.systems.mediamtx.state_cache import has_ended
from asynccam.wall_clock import unix_now

ANSWER_MEANINGS: Final[Mapping[tuple[int, str], AnswerMeaning]] = {
    # Its start waits for the stream and for the recorder, and is refused if one of the two does not come.
    (1, "STARTED"): AnswerMeaning.RECORDING,
    # It triggers the publisher and answers; the recorder may have its first frame more than a second later.
    (2, "STARTED"): AnswerMeaning.HEARD,
}
"""What the answer to ``start_recording`` says of the recording, by generation and status; all else was heard.

The service's own statuses and notifications repeat what it was told to do, so they are no evidence.
"""


def check_identity(
    client: CameraClient, device: str, identity: Identity, answer: CameraInfo | None = None
) -> None:
    """See that a camera is the one that is known, by what its service told last.

    Raises:
        CameraNotFoundError: Another one has its name.
    """
    where = client.describe(device).id
    identity.check(where, client.facts(device))
    if answer is not None:
        identity.check(where, client.facts(device, answer))


class ArmedRecording:
    """A ``start_recording`` on a connection that is open and signed in.

    Args:
        client: The service's.
        device: The camera.
        timeout: Seconds the service may take to accept.
        absences: Watches the camera from the answer on.
        identity: The camera that is meant.
    """

    def __init__(
        self,
        client: CameraClient,
        device: str,
        timeout: float,
        absences: "Absences",
        identity: Identity,
    ) -> None:
        self._client = client
        self._device = device
        self._identity = identity
        self._timeout = timeout
        self._absences = absences
        self._posted: PostedCall | None = None
        self._error: AsynccamError | None = None
        self._over = False

    def release(self, at: float | None) -> None:
        """Send the start in place; what goes wrong with the connection is told by `accepted`.

        Args:
            at: Always None: the service has no scheduled start.

        Raises:
            UsageError: ``at`` is a time.
            StateError: It was released or closed before.
        """
        if at is not None:
            raise UsageError(f"{self._device} starts at once; it has no scheduled start")
        if self._over or self._posted is not None or self._error is not None:
            raise StateError(f"the start of {self._device} was let go or closed before")
        try:
            # The connection may have been made anew since it was armed.
            check_identity(self._client, self._device, self._identity)
            self._posted = self._client.post(
                "start_recording", {"device": self._device}, timeout=self._timeout
            )
        except (ConnectionError, CameraNotFoundError) as error:
            self._error = error

    async def accepted(self) -> StartReport:
        """Wait for the service's answer.

        Raises:
            CameraServiceError: The service refused; `ConnectionError` says whether the start had left.
            TimeoutError: No answer in time.
            StateError: `release` was not called.
        """
        if self._error is not None:
            raise self._error
        posted = self._posted
        if posted is None or self._over:
            raise StateError(f"the start of {self._device} was not let go")
        try:
            result = await posted.result()
        except (ConnectionError, TimeoutError) as error:
            if error.maybe_executed:
                self._client.note_lost_start(self._device)
            raise
        except asyncio.CancelledError:
            self._client.note_lost_start(self._device)
            raise
        answer = RecordingInfo.read(result, method="start_recording")
        self._client.note_recording(answer.of(self._device))
        self._absences.watch()
        return StartReport(
            commanded_at=posted.sent_at,
            accepted_at=unix_now() if posted.answered_at is None else posted.answered_at,
            status=answer.status,
            names=(answer.filename,) if answer.filename else (),
            meaning=ANSWER_MEANINGS.get(
                (self._client.generation, answer.status.upper()), AnswerMeaning.HEARD
            ),
        )

    async def aclose(self) -> None:
        """Wait no longer for an answer; a start that has left is not called back by this."""
        self._over = True
        if self._posted is not None:
            self._posted.forget()


class Absences:
    """When a camera was away from its service or failed, as far as the service tells.

    A lost connection to the service is none: it goes on recording.

    Args:
        client: The service's.
        device: The camera.
    """

    def __init__(self, client: CameraClient, device: str) -> None:
        self._client = client
        self._device = device
        self._watching: Subscription | None = None
        self._gaps: list[RecordingGap] = []
        self._began: float | None = None

    def watch(self) -> None:
        """Begin anew."""
        self.end()
        self._gaps, self._began = [], None
        kinds = (CameraLost, CameraFound, CameraStateChanged)
        self._watching = self._client.events.subscribe(self._hear, *kinds)

    def end(self) -> tuple[RecordingGap, ...]:
        """Watch no longer; the absences since `watch`, one that goes on without an end."""
        if self._watching is not None:
            self._watching.cancel()
            self._watching = None
        if self._began is not None:
            self._gaps.append(RecordingGap(self._began, reason="the camera was away from its service"))
            self._began = None
        return tuple(self._gaps)

    def _hear(self, event: CameraEvent) -> None:
        if event.camera != self._client.describe(self._device).id:
            return
        gone = isinstance(event, CameraLost) or (
            isinstance(event, CameraStateChanged)
            and event.state in (CameraState.UNAVAILABLE, CameraState.ERROR)
        )
        if gone and self._began is None:
            self._began = event.at
        elif not gone and self._began is not None:
            reason = "the camera was away from its service"
            self._gaps.append(RecordingGap(self._began, event.at, reason=reason))
            self._began = None


class MediaMtxRecord:
    """The `Record` feature of one camera.

    Args:
        client: The service's.
        device: The camera.
        identity: What is known to notice another camera by; nothing by default.
    """

    def __init__(self, client: CameraClient, device: str, identity: Identity | None = None) -> None:
        self._client = client
        self._device = device
        self._identity = identity or Identity({}, error=CameraNotFoundError)
        self._absences = Absences(client, device)

    async def arm(self, plan: RecordPlan) -> ArmedStart:
        """Wait for the connection and see that the camera is there.

        The plan's duration is not handed on: a service of generation 1 gets the camera stuck when it
        ends a recording by itself.

        Raises:
            CameraNotFoundError: The camera is away, or another one has its name.
            CameraBusyError: It records already, as far as the service has told.
            CameraServiceError, TimeoutError, RemoteProtocolError: The service cannot be asked.
        """
        async with deadline(plan.timeout, f"readiness of {self._device} at {self._client.endpoint.address}"):
            await self._client.wait_until_connected()
            answer = await self._client.get_camera_status(self._device)
        check_identity(self._client, self._device, self._identity, answer)
        state = self._client.camera_state(self._device, answer)
        if state is CameraState.RECORDING:
            address = self._client.endpoint.address
            raise CameraBusyError(f"{self._device} at {address} is recording already; stop that first")
        if state is CameraState.UNAVAILABLE:
            raise CameraNotFoundError(f"{self._device} is {answer.status} at {self._client.endpoint.address}")
        return ArmedRecording(self._client, self._device, plan.timeout, self._absences, self._identity)

    async def stop(self, *, timeout: float = 60.0) -> StopReport:
        """Stop the recording and name its file; waits out a lost connection first.

        When the answer does not come, the service's own notification of the stop counts.

        Raises:
            CameraNotFoundError: Another camera has its name now; nothing was sent.
            CameraServiceError: The service refused, or the connection went and nothing told of the stop.
            TimeoutError: No answer in time, and nothing told of the stop.
        """
        began = time.monotonic()
        async with deadline(timeout, f"connection to {self._client.endpoint.address}"):
            await self._client.wait_until_connected()
        check_identity(self._client, self._device, self._identity)  # connected anew, perhaps to another one
        left = max(timeout - (time.monotonic() - began), 0.001)
        sent = unix_now()
        before = self._client.recording(self._device)
        try:
            answer = await self._client.stop_recording(self._device, timeout=left)
        except (ConnectionError, TimeoutError):
            told = self._client.recording(self._device)
            if told is None or told is before or not has_ended(told):
                raise
            answer = told
        known = self._client.recording(self._device) or answer
        name = answer.filename or known.filename
        size = answer.file_size or known.file_size
        return StopReport(
            commanded_at=sent,
            stopped_at=unix_now(),
            status=answer.status,
            files=(MediaFile(name, size or None, f"{RECORDINGS}/{name}"),) if name else (),
            gaps=self._absences.end(),
        )
