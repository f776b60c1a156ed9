"""Start and stop of a recording on this computer, in the terms all systems share.

The server streams, and a recorder here writes: so the first frame's time is one of this computer's, the file
is finished here the moment it is stopped, and the maker's servers, whose file captures cannot be stopped
early, can be stopped as well. A capture into a file on the server would lose no packet on the way, but
give none of that. See docs/protocols/nanocam.md.
"""

import asyncio
import logging
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Final

from asynccam.errors import (
    AsynccamError,
    BusyError,
    DeviceError,
    RecordingError,
    StateError,
    UsageError,
)
from asynccam.model.coverage import EarlyEnd
from asynccam.model.features import RecordingGap, RecordPlan, StartReport, StopReport
from asynccam.model.filenames import safe_name
from asynccam.model.info import DRIFT_LIMIT, MediaFile
from asynccam.recording import FileVerdict, Pipeline, Recorder, RecorderState, RtpSource, SingleFile, Verdict
from asynccam.recording.gstreamer import find_installation
from asynccam.recording.rtp.port import is_local_address
from asynccam.runtime.disk import on_disk
from asynccam.runtime.tasks import TaskScope, finish, see_done
from asynccam.runtime.timing import deadline
from asynccam.systems.nanocam.client_conversation import Conversation, unexpected
from asynccam.systems.nanocam.client_receive import free_path
from asynccam.systems.nanocam.protocol import MAX_SSRC, Ours, VideoRequest
from asynccam.systems.nanocam.reply_parser import ReplyEvent
from asynccam.systems.nanocam.wire_answers import Ok
from asynccam.wall_clock import WALL_CLOCK, elapsed, local_now, unix_now

if TYPE_CHECKING:
    from asynccam.systems.nanocam.camera import NanocamCamera

_LOG = logging.getLogger(__name__)

_AHEAD: Final = 120.0
"""Seconds a server is asked to stream on: so long one of the maker's does if this computer goes away."""
_RENEW: Final = 30.0
"""Seconds between two such requests."""
_SPARE: Final = 30.0
"""Seconds asked for beyond the intended length, since the stop comes by hand."""
_LAST: Final = 1.0
"""Seconds that one of the maker's servers is left to stream, because it cannot be stopped at once."""
_JITTER: Final = 0.2
"""Seconds of jitter buffer."""
_ON_ITS_WAY: Final = 0.15
"""Seconds that the quickest frame takes at most to be encoded and sent. Measured with software encoders of
1920 x 1080 on two busy processors: 50 to 110 ms."""
_LISTENING: Final = 5.0
"""Seconds a recorder may take until it listens; packets that come earlier wait at its port."""
_FIRST: Final = asyncio.FIRST_COMPLETED
_TO_ANSWER: Final = 3.0
"""Seconds that a cancelled start waits for the answer to a request that may be on its way."""
_FOREVER: Final = 86_400.0
"""Seconds a recorder listens; the first frame is bounded where it is waited for."""


class Reception:
    """One stream of a server, received into a file.

    Args:
        camera: Whose stream it is.
        duration: Intended length in seconds, or None.
    """

    def __init__(self, camera: "NanocamCamera", duration: float | None) -> None:
        self._camera = camera
        # Where the server sends to.
        self._address = "::" if ":" in camera.host else "0.0.0.0"  # noqa: S104
        self._held = camera.ports.hold(self._address)
        ours = Ours(camera.token, self._held.port, secrets.randbelow(MAX_SSRC + 1))
        self._talk = Conversation(camera.host, camera.port, ours, camera.timeouts)
        self._seconds = min(_AHEAD, _AHEAD if duration is None else duration + _SPARE)
        self._recorder: Recorder | None = None
        self._first: asyncio.Task[float] | None = None
        self._scope = TaskScope(f"stream of {camera.id}", on_failure=self._failed)
        self._streams = False
        self.contradictions: tuple[str, ...] = ()
        self._reliable = False  # whether the sender's reports are those of our own server
        self.trouble = ""

    @property
    def port(self) -> int:
        """The UDP port it comes to."""
        return self._held.port

    @property
    def state(self) -> RecorderState | None:
        """Where the recorder stands, or None without one."""
        return None if self._recorder is None else self._recorder.state

    @property
    def gaps(self) -> tuple[RecordingGap, ...]:
        """Times without frames."""
        gaps = () if self._recorder is None else self._recorder.gaps
        return tuple(
            RecordingGap(gap.began, gap.ended if gap.resumed else None, gap.restarted, "no frame came")
            for gap in gaps
        )

    @property
    def drift(self) -> float:
        """Seconds per second by which the stream's times may run apart from this computer: 0 from here."""
        stream = None if self._recorder is None else self._recorder.rtp
        known = stream is not None and stream.sender is not None and is_local_address(stream.sender.address)
        return 0.0 if known else DRIFT_LIMIT

    @property
    def ended_early(self) -> EarlyEnd | None:
        """That the video ends clearly before the recording was ended, or None."""
        return None if self._recorder is None else self._recorder.ended_early

    async def prepare(self, path: Path | None) -> None:
        """Connect, and listen; with no path only connect.

        Raises:
            ConnectionError, TimeoutError: The server cannot be reached.
            RecordingError, StorageError: This computer cannot record.
        """
        if path is not None:
            await self._talk.connect()
            source = RtpSource(
                self._held.port,
                self._address,
                latency=round(_JITTER * 1000),
                sender=self._talk.address,
                held=self._held,
            )
            pipeline = Pipeline(source, SingleFile(path))
            tools = await find_installation()
            plan = await on_disk(pipeline.plan, tools.elements)
            await find_installation(plan.graph.factories)
            self._recorder = Recorder(pipeline, name=self._camera.id)
        await self._talk.connect()
        if self._recorder is None:
            self._held.share()
        else:
            self._first = self._scope.spawn(self._recorder.start(timeout=_FOREVER), name="first frame")
            listening = self._scope.spawn(self._recorder.listening(), name="listening")
            await asyncio.wait({self._first, listening}, timeout=_LISTENING, return_when=_FIRST)
            if self._first.done():
                self._first.result()

    async def ask(self, timeout: float) -> float:
        """Have the server stream.

        Returns:
            When the server had answered, Unix seconds.

        Raises:
            BusyError: It streams to somebody else, or captures.
            DeviceError: It refuses, or can only stream to a port that is taken here.
            AsynccamError: As `Conversation.begin`.
        """
        camera = self._camera
        request = VideoRequest(self._seconds, camera.width, camera.height, "udp", self._talk.ours)
        async with self._talk.exchange() as link:
            asked = elapsed()
            asking = self._scope.spawn(
                self._talk.begin(link, request, timeout, override=camera.override), name="request"
            )
            try:
                answer = await asyncio.shield(asking)
            except asyncio.CancelledError:
                # A server that has the request is to be stopped; one that has not dies of a stop.
                await see_done({asking}, until=asyncio.get_running_loop().time() + _TO_ANSWER)
                raise
            finally:
                if asking.done() and _accepted(asking):
                    self._streams = True
                    self._talk.stream_until = asyncio.get_running_loop().time() + self._seconds
            if not isinstance(answer, Ok):
                raise unexpected(answer, link.peer)
            accepted_at = unix_now()
            # A stream that came before it was asked for is another sender's.
            self._held.choose(asked, answer.ssrc)
            self._reliable = answer.ssrc is not None
        self._scope.spawn(self._renew(), name="renew")
        if not self._talk.framed and self.port != camera.ports.preferred:
            taken = f"{camera.id} streams to UDP port {camera.ports.preferred} only, which is taken here"
            raise DeviceError(taken)
        return accepted_at

    async def first_frame(self) -> tuple[float, float]:
        """Wait for the first frame: when it was made, and by how much that may be wrong.

        Raises:
            RecordingError, StorageError: The recorder failed.
        """
        assert self._first is not None
        await asyncio.shield(self._first)
        made = self.made
        assert made is not None  # a packet of it has come
        return made

    @property
    def made(self) -> tuple[float, float] | None:
        """When the first frame was made, Unix seconds, and by how much that may be wrong.

        It is known better the more frames and reports of the sender have come, see `RtpTimes`. None before
        the first one. Evidence that is at odds is told in `contradictions`, and the bound covers all of it.
        """
        stream = None if self._recorder is None else self._recorder.rtp
        if stream is None or stream.sender is None:
            return None
        clock = WALL_CLOCK.at(0.0) if is_local_address(stream.sender.address) else None
        first = stream.times.first_frame(_ON_ITS_WAY, reliable=self._reliable, clock=clock)
        if first is None:
            return None
        self.contradictions = first.contradictions
        at = WALL_CLOCK.at((first.earliest + first.latest) / 2)
        return at, (first.latest - first.earliest) / 2

    async def end(self) -> tuple[FileVerdict, ...]:
        """Finish the file, then have the server stop; harmless when called twice."""
        try:
            if self._recorder is None:
                return ()
            if self._first is not None and self._first.done():
                await self._recorder.aclose()
            else:
                await self._scope.aclose()
                await self._recorder.aclose()
            if self._recorder.error is not None:
                self.trouble = f"ended early: {self._recorder.error}"
            elif self._recorder.ended_early is not None:
                self.trouble = f"ended early: {self._recorder.ended_early.reason}"
            stream = self._recorder.rtp
            if stream is not None and stream.trouble:
                self.trouble = "; ".join(filter(None, (self.trouble, stream.trouble)))
            return self._recorder.verdicts
        finally:
            await finish(self._leave())

    async def _leave(self) -> None:
        try:
            await self._scope.aclose()
            if self._streams:
                self._streams = False
                await self._stop_server()
        except AsynccamError as error:
            self.trouble = self.trouble or f"the server may still stream: {error}"
        finally:
            await self._talk.aclose()
            self._held.close()

    async def _stop_server(self) -> None:
        if self._talk.framed:
            self._talk.part_from_ours()
            return
        try:
            await self._talk.reset_timer(_LAST)
        except StateError:
            return  # It ends in this moment by itself, and would die of being asked.
        await asyncio.sleep(2 * _LAST)  # It may die of a client that leaves before the end.

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(min(_RENEW, self._seconds / 2))
            await self._talk.reset_timer(self._seconds)

    def _failed(self, task: str, error: Exception) -> None:
        if "first frame" not in task and "request" not in task:  # these are for who waits for them
            self.trouble = f"the stream was not prolonged: {error}"
            _LOG.warning("%s: %s", task, error)


def _accepted(asking: "asyncio.Task[ReplyEvent]") -> bool:
    return not asking.cancelled() and asking.exception() is None and isinstance(asking.result(), Ok)


class NanocamRecord:
    """`SupportsRecord` of one camera.

    Args:
        camera: Whose recordings these are.
    """

    def __init__(self, camera: "NanocamCamera") -> None:
        self._camera = camera
        self._reception: Reception | None = None
        self._recording = False

    @property
    def state(self) -> RecorderState | None:
        """Where the recorder stands, or None."""
        return None if self._reception is None else self._reception.state

    @property
    def active(self) -> bool:
        """Whether this camera's stream is being received here, or about to be."""
        return self._reception is not None

    async def arm(self, plan: RecordPlan) -> "NanocamStart":
        """Connect, and have a recorder listen; only the request is not sent.

        Raises:
            BusyError: The camera is being recorded or streamed by this object.
            ConnectionError, TimeoutError: The server cannot be reached.
            RecordingError, StorageError: This computer cannot record.
        """
        if self._reception is not None:
            raise BusyError(f"{self._camera.id} is being recorded or streamed; stop that first")
        name = safe_name(f"{self._camera.info.name}_{local_now().strftime('%Y%m%d_%H%M%S')}.mp4")
        reception = self._reception = Reception(self._camera, plan.duration)
        try:
            await reception.prepare(await on_disk(free_path, plan.directory / name))
        except BaseException:
            await finish(self.drop(reception))
            raise
        return NanocamStart(self, reception, plan)

    async def open(self) -> int:
        """Have the server stream to a port here, for another program; the port."""
        if self._reception is None:
            reception = self._reception = Reception(self._camera, None)
            try:
                await reception.prepare(None)
                await reception.ask(self._camera.timeouts.capture)
            except BaseException:
                await finish(self.drop(reception))
                raise
        elif self._recording:
            raise BusyError(f"{self._camera.id} is being recorded; stop that first")
        return self._reception.port

    def began(self) -> None:
        """The recording runs."""
        self._recording = True

    async def drop(self, reception: Reception) -> None:
        """Let go of a start that did not lead to a recording."""
        if self._reception is reception:
            self._reception = None
        await reception.end()

    async def stop(self, *, timeout: float = 60.0) -> StopReport:
        """Finish the file, then have the server stop.

        What else went wrong is in the report's status: the file is what counts.

        Raises:
            StateError: Nothing is being recorded.
            RecordingError: There is no file.
            TimeoutError: It took longer; it is done nevertheless.
        """
        reception = self._reception
        if reception is None or not self._recording:
            raise StateError(f"{self._camera.id} is not being recorded")
        commanded_at = unix_now()
        self._reception, self._recording = None, False
        async with deadline(timeout, f"end of the recording of {self._camera.id}"):
            verdicts = await reception.end()
        at, bound = reception.made or (None, None)
        if not verdicts:
            raise RecordingError(f"{self._camera.id}: no file was written")
        return StopReport(
            commanded_at=commanded_at,
            stopped_at=unix_now(),
            status=_status(verdicts, reception.trouble),
            files=tuple(MediaFile(one.path.name, one.size, path=one.path, verdict=one) for one in verdicts),
            first_frame_at=at,
            first_frame_bound=bound,
            frame_drift=reception.drift,
            gaps=reception.gaps,
            ended_early=reception.ended_early,
            contradictions=reception.contradictions,
        )

    async def aclose(self) -> None:
        """End what there is to end; harmless when called twice."""
        reception, self._reception, self._recording = self._reception, None, False
        if reception is not None:
            await reception.end()


class NanocamStart:
    """`ArmedStart` of one camera: a recorder listens, and the request waits to be sent.

    Args:
        record: Whose start it is.
        reception: What was armed.
        plan: How long things may take.
    """

    def __init__(self, record: NanocamRecord, reception: Reception, plan: RecordPlan) -> None:
        self._record = record
        self._reception = reception
        self._plan = plan
        self._scope = TaskScope("armed start", on_failure=_told_by_accepted)
        self._starting: asyncio.Task[tuple[float, float, float]] | None = None
        self._released_at = 0.0
        self._over = False

    def release(self, at: float | None) -> None:
        """Send the request; what goes wrong is told by `accepted`.

        Args:
            at: Always None: there is no scheduled start.

        Raises:
            UsageError: ``at`` is a time.
            StateError: It was released or closed before.
        """
        if at is not None:
            raise UsageError("a nanocam camera starts at once; it has no scheduled start")
        if self._over or self._starting is not None:
            raise StateError("this start was let go or closed before")
        self._released_at = unix_now()
        self._starting = self._scope.spawn(self._start(), name="start")

    async def accepted(self) -> StartReport:
        """Wait for the first frame.

        Raises:
            BusyError: The server streams to somebody else.
            RecordingError, TimeoutError: No frame came.
            StateError: `release` was not called, or the start was closed meanwhile.
            AsynccamError: The server went away or refuses.
        """
        if self._starting is None:
            raise StateError("this start was not let go")
        await asyncio.wait({self._starting})
        if self._starting.cancelled():
            raise StateError("this start was closed before the first frame")
        accepted_at, at, bound = self._starting.result()
        return StartReport(
            commanded_at=self._released_at,
            accepted_at=accepted_at,
            status=RecorderState.RECORDING.value,
            first_frame_at=at,
            first_frame_bound=bound,
            frame_drift=self._reception.drift,
        )

    async def aclose(self) -> None:
        """Let go of a start that did not lead to a recording; harmless otherwise, and when called twice."""
        if self._over:
            return
        self._over = True
        await finish(self._scope.aclose())
        if self._starting is None or self._starting.cancelled() or self._starting.exception():
            await finish(self._record.drop(self._reception))

    async def _start(self) -> tuple[float, float, float]:
        async with deadline(self._plan.timeout, "first frame"):
            accepted_at = await self._reception.ask(self._plan.timeout)
            at, bound = await self._reception.first_frame()
        self._record.began()
        return accepted_at, at, bound


def _told_by_accepted(task: str, error: Exception) -> None:
    """Whoever waits for the start hears of it."""


def _status(verdicts: tuple[FileVerdict, ...], trouble: str) -> str:
    flawed = [one for one in verdicts if one.verdict is not Verdict.COMPLETE]
    words = [f"{one.path.name}: {one.verdict.value}" for one in flawed] or ["complete"]
    return "; ".join([*words, trouble] if trouble else words)
