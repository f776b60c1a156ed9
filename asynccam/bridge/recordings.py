"""Takes that messages begin and end, and takes that an earlier bridge left. See docs/mqtt.md."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from asynccam.bridge.topics import ALL, key_of
from asynccam.bridge.wishes import TakeWish
from asynccam.errors import (
    AsynccamError,
    BusyError,
    ConnectionError,
    NotFoundError,
    StateError,
    TimeoutError,
    UsageError,
)
from asynccam.model.camera import Camera
from asynccam.model.credentials import Credentials
from asynccam.model.events import Event
from asynccam.model.features import Record, ReportsRecording
from asynccam.model.info import CameraState
from asynccam.model.manifest import CameraRecord, FileState, Manifest, Outcome
from asynccam.runtime.tasks import TaskScope, finish
from asynccam.runtime.timing import deadline, sleep_until
from asynccam.session import Session, Unavailable
from asynccam.take import Take, TakeLimits, TakeState
from asynccam.take.resume import InterruptedTake, interrupted_takes, resume_take
from asynccam.wall_clock import WALL_CLOCK, unix_now

_LOG = logging.getLogger(__name__)

_STATUS_SECONDS: Final = 3.0
"""Seconds a camera has to say, before a take begins, whether it records already."""
_EVIDENCE_SECONDS: Final = 3.0
"""Seconds that an answer to ON waits for a device that can be asked to say that it records."""
_LOOK_EVERY: Final = 0.1
_RETRY_SECONDS: Final = 2.0
"""Seconds between two looks whether the cameras of an interrupted take are there."""
_ABORT_SECONDS: Final = 1.0
_RESUME_LIMITS: Final = TakeLimits(cancel_timeout=2.0)
_SAYS_RECORDING: Final = frozenset({"seen", "status", "device", "answer"})
"""Evidence on a first frame that comes from the camera or its recorder, and not from a plan."""


@dataclass(slots=True)
class _Running:
    """A take that a message began.

    Attributes:
        take: The take.
        cameras: Ids of its cameras.
        end: Set when it is to end.
        started: What became of its start, once that is known.
        job: Runs it from its arming to its manifest.
    """

    take: Take
    cameras: frozenset[str]
    end: asyncio.Event
    started: "asyncio.Future[dict[str, Any]]"
    job: "asyncio.Task[None] | None" = None


@dataclass(slots=True)
class Interrupted:
    """A take that an earlier bridge left, as this one has it.

    Attributes:
        take: What is left of it.
        problem: Why it could not be finished yet, or ``""``.
        resuming: The one who is at it.
    """

    take: InterruptedTake
    problem: str = ""
    resuming: "asyncio.Task[Manifest] | None" = None


class Recordings:
    """Begins and ends takes by key, and finishes those that were interrupted.

    Args:
        session: Whose cameras record.
        directory: Where takes are kept.
        changed: Called when a take begins, goes on or has ended.
    """

    def __init__(self, session: Session, directory: Path, changed: Callable[[], None]) -> None:
        self._session = session
        self._directory = directory
        self._changed = changed
        self._scope = TaskScope("recordings")
        self._running: dict[str, _Running] = {}
        self.interrupted: dict[str, Interrupted] = {}

    def start(self) -> None:
        """Look for interrupted takes, and finish or keep them; see docs/mqtt.md."""
        self._scope.spawn(self._adopt(), name="interrupted takes")

    @property
    def takes(self) -> Mapping[str, Take]:
        """The takes that run, by the key they were started with."""
        return {key: one.take for key, one in self._running.items()}

    def camera(self, key: str) -> Camera:
        """Return the camera of a key.

        Raises:
            NotFoundError: There is none.
        """
        for camera in self._session.cameras.values():
            if key in (camera.id, key_of(camera.id)):
                return camera
        raise NotFoundError(f"there is no camera {key}")

    def notices(self) -> list[dict[str, Any]]:
        """What a person has to know of interrupted takes."""
        return [
            {
                "what": "interrupted take",
                "take": one.take.name,
                "directory": str(one.take.directory),
                "cameras": sorted(one.take.left),
                "message": one.problem or _what_to_do(one.take),
            }
            for one in self.interrupted.values()
        ]

    # -- ON -----------------------------------------------------------------------------------------

    async def begin(
        self, key: str, wish: TakeWish, is_called_off: Callable[[], bool] = lambda: False
    ) -> dict[str, Any]:
        """Begin a take; gives what became of each camera's recording.

        Args:
            key: Of one camera, or for all.
            wish: What is asked of the take.
            is_called_off: Asked before cameras are told anything; from then on `call_off` ends the start.

        Raises:
            BusyError: A camera is in another take, or records for another program.
            ConnectionError: No camera is there.
            NotFoundError, UsageError: The cameras are not named rightly.
            StateError: It was called off.
        """
        if key in self._running:
            raise BusyError(f"take {self._running[key].take.name} is running")
        if key != ALL and wish.cameras:
            raise UsageError(f"cameras are named only in commands for {ALL!r}")
        cameras, missing = self._chosen(key, wish)
        self._refuse_held(cameras)
        await self._refuse_recording(cameras)
        if is_called_off():
            raise StateError(f"the start for {key} was ended before it had begun")
        self._refuse_held(cameras)  # a program may have begun a take meanwhile
        take = self._session.new_take(cameras, self._directory, name=wish.name, missing=missing)
        started: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        running = self._running[key] = _Running(
            take, frozenset(one.id for one in cameras), asyncio.Event(), started
        )
        running.job = self._scope.spawn(self._run(key, running, wish), name=f"take {key}")
        either: set[asyncio.Future[Any]] = {started, running.job}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not started.done():
            raise StateError(f"take {take.name} was ended before it had begun")
        return started.result()

    def _chosen(self, key: str, wish: TakeWish) -> tuple[list[Camera], dict[str, Unavailable]]:
        """The cameras that are to record, and who of them is missing."""
        if key != ALL:
            return [self.camera(key)], {}
        if wish.cameras:
            return list({one.id: one for one in map(self.camera, wish.cameras)}.values()), {}
        everyone = [one for one in self._session.cameras.values() if one.supports(Record)]
        away = dict(self._session.unavailable)
        behind = tuple(camera for camera in self._session.cameras)
        missing = {
            name: one
            for name, one in away.items()
            if (
                self._session.cameras[name].supports(Record)
                if name in self._session.cameras
                else not any(camera.startswith(f"{name}/") for camera in behind)
            )
        }
        present = [one for one in everyone if one.id not in away]
        if not present and missing:
            name, why = next(iter(missing.items()))
            raise ConnectionError(f"no camera is available; {name}: {why.error or 'unavailable'}")
        return present, missing

    def _refuse_held(self, cameras: Iterable[Camera]) -> None:
        for camera in cameras:
            begun = (one.take for one in self._running.values() if camera.id in one.cameras)
            take = self._session.take_of(camera) or next(begun, None)
            if take is not None:
                raise BusyError(
                    f"{camera.id} is in take {take.name}, which is {take.state.value}; end that one first"
                )
            left = self.left_of(camera.id)
            if left is not None:
                raise BusyError(
                    f"{camera.id} is in take {left.take.name}, which was interrupted; OFF ends it"
                )

    async def _refuse_recording(self, cameras: Iterable[Camera]) -> None:
        """Refuse a camera that somebody else records with, and one that is away and does not answer."""
        found = await self._scope.gather({one.id: self._asked(one) for one in cameras}, name="status")
        for key, state in found.items():
            if isinstance(state, Exception):
                away = self._session.unavailable.get(key)
                if away is not None and len(found) == 1:
                    raise ConnectionError(f"{key} is unavailable: {state}") from state
            elif state in (CameraState.RECORDING, CameraState.STOPPING):
                raise BusyError(
                    f"{key} is {state.value} for another program, which is left alone; stop it there first"
                )
            elif state is CameraState.UNAVAILABLE and len(found) == 1:
                raise ConnectionError(f"{key} is unavailable, as its service says")

    async def _asked(self, camera: Camera) -> CameraState:
        async with deadline(_STATUS_SECONDS, f"status of {camera.id}"):
            return (await camera.status()).state

    async def _run(self, key: str, running: _Running, wish: TakeWish) -> None:
        """One take from its arming to its manifest."""
        take = running.take
        try:
            self._changed()
            if await self._begun(running, wish):
                await self._until_end(take, wish.duration, running.end)
                self._changed()
                await take.stop()
                await take.collect()
        except AsynccamError as error:
            _LOG.warning("take %s: %s", take.name, error)
            if not running.started.done():
                running.started.set_result(_failed(take, error))
        finally:
            del self._running[key]
            self._changed()

    async def _begun(self, running: _Running, wish: TakeWish) -> bool:
        """Arm and start, unless it is called off meanwhile; whether anybody records."""
        starting = self._scope.spawn(self._start(running.take, wish), name="start")
        called_off = self._scope.spawn(running.end.wait(), name="call off")
        try:
            await asyncio.wait({starting, called_off}, return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():
                await running.take.aclose()
                await asyncio.wait({starting})
                error = StateError(f"take {running.take.name} was ended before all cameras had answered")
                running.started.set_result(_failed(running.take, error))
                return False
        finally:
            called_off.cancel()
            starting.cancel()
        begun = starting.result()
        if not begun["ok"]:
            await running.take.aclose()  # so that its cameras are free for the next command
        running.started.set_result(begun)
        return bool(begun["ok"])

    async def _start(self, take: Take, wish: TakeWish) -> dict[str, Any]:
        """Arm and start; gives what became of it."""
        await take.arm(duration=wish.duration)
        records = take.manifest.cameras
        if all(any(error.step == "arm" for error in record.errors) for record in records):
            return _failed(take, None)
        await take.start(start_in=wish.start_in)
        self._changed()
        await self._all_answered(take)
        if not any(record.accepted_at for record in take.manifest.cameras):
            return _failed(take, None)
        await self._evidence(take)
        return _begun(take)

    async def _all_answered(self, take: Take) -> None:
        """Wait until each camera has accepted the start or failed to, which the take bounds."""
        while take.awaited:  # noqa: ASYNC110 - a take tells by its state only
            await asyncio.sleep(_LOOK_EVERY)

    async def _evidence(self, take: Take) -> None:
        """Wait a while for the devices that can be asked to say that they record."""
        until = WALL_CLOCK.elapsed() + _EVIDENCE_SECONDS
        while WALL_CLOCK.elapsed() < until:
            silent = [one for one in take.manifest.cameras if one.accepted_at and not _says_recording(one)]
            if not any(self._can_be_asked(record.id) for record in silent):
                return
            await asyncio.sleep(_LOOK_EVERY)

    def _can_be_asked(self, camera: str) -> bool:
        held = self._session.cameras.get(camera)
        return (
            held is not None and held.supports(Record) and isinstance(held.feature(Record), ReportsRecording)
        )

    async def _until_end(self, take: Take, duration: float | None, end: asyncio.Event) -> None:
        """Wait until a take has its length, counted from T0 as `Take.run` does, or is ended."""
        waits: set[asyncio.Task[Any]] = {self._scope.spawn(end.wait(), name="end")}
        start = take.manifest.start
        if duration is not None and start is not None:
            left = start.t0_local.unix + duration - unix_now()
            moment = WALL_CLOCK.elapsed() + left
            waits.add(self._scope.spawn(sleep_until(moment), name="length"))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waits:
                task.cancel()

    # -- OFF ----------------------------------------------------------------------------------------

    def call_off(self, key: str) -> None:
        """End a start that is under way; its own answer says so, and that of the OFF comes behind it."""
        running = self._running.get(key)
        if running is not None and not running.started.done():
            running.end.set()

    async def end(self, key: str) -> dict[str, Any]:
        """End the take of a key, or what is left of one that was interrupted; gives what came of it.

        Raises:
            StateError: There is neither.
        """
        running = self._running.get(key)
        if running is not None and running.job is not None:
            running.end.set()
            await asyncio.wait({running.job})
            return _ended(running.take.manifest, str(running.take.directory))
        left = [one for one in self.interrupted.values() if key == ALL or key in self._keys(one)]
        if left:
            results = [await self._resumed(one) for one in left]
            return next((one for one in results if not one.get("ok", True)), results[-1])
        words = f"nothing that was started by {key} is recording"
        if key != ALL:
            camera = self.camera(key)
            take = self._session.take_of(camera)
            if take is not None:
                words += f"; {camera.id} is in take {take.name}, which is left alone"
        raise StateError(words)

    # -- what an earlier bridge left ----------------------------------------------------------------

    def has_left(self, key: str) -> bool:
        """Return whether an interrupted take has the camera of a key."""
        return any(key in self._keys(one) for one in self.interrupted.values())

    def left_of(self, camera: str) -> Interrupted | None:
        """Return the interrupted take in which something of a camera is left to do, or None."""
        return next((one for one in self.interrupted.values() if camera in one.take.left), None)

    def _keys(self, one: Interrupted) -> set[str]:
        return {key_of(camera) for camera in one.take.cameras}

    async def _adopt(self) -> None:
        """Take on what is left, and what none of the cameras is here for once one of them comes."""
        found = await interrupted_takes(self._directory)
        while found:
            for take in [one for one in found if self._is_ours(one)]:
                found.remove(take)
                one = self.interrupted[take.name] = Interrupted(take)
                _LOG.warning(
                    "take %s in %s was interrupted; %s", take.name, take.directory, _what_to_do(take)
                )
                self._scope.spawn(self._finish_in_time(one), name=f"interrupted take {take.name}")
                self._changed()
            await asyncio.sleep(_RETRY_SECONDS)

    def _is_ours(self, take: InterruptedTake) -> bool:
        return any(self._session.expects(camera, where) for camera, where in take.cameras.items())

    async def _finish_in_time(self, one: Interrupted) -> None:
        """Resume an interrupted take that need not go on: nothing records, or its length is over."""
        if one.take.devices:
            if one.take.ends_at is None:
                return  # it records, and OFF ends it
            await sleep_until(one.take.ends_at)
        while one.take.name in self.interrupted:
            here = self._session.cameras.keys() - self._session.unavailable.keys()
            if one.take.left <= here:
                await self._resumed(one)
                return  # what failed is a notice, and OFF tries again
            await asyncio.sleep(_RETRY_SECONDS)

    async def _resumed(self, one: Interrupted) -> dict[str, Any]:
        """Resume it once, whoever asks for it; gives what came of it."""
        if one.resuming is None or one.resuming.done():
            known = _Known(self._session)
            one.resuming = self._scope.spawn(self._resume(one, known), name=f"resume {one.take.name}")
        try:
            await asyncio.wait({one.resuming})
            manifest = one.resuming.result()
        except asyncio.CancelledError:
            raise
        except AsynccamError as error:
            return _answer(one.take.name, str(one.take.directory), error)
        result = _ended(manifest, str(one.take.directory))
        if one.problem:
            result |= {"ok": False, "error": "ConnectionError", "message": one.problem}
        return result

    async def _resume(self, one: Interrupted, known: "_Known") -> Manifest:
        try:
            manifest = await resume_take(one.take.directory, known, limits=_RESUME_LIMITS)
        except AsynccamError as error:
            one.problem = str(error)
            if isinstance(error, StateError):  # somebody else has finished it
                self.interrupted.pop(one.take.name, None)
            self._changed()
            raise
        tried = manifest.resumed[-1].unix if manifest.resumed else 0.0
        failed = [
            f"{record.id}: {error.message}"
            for record in manifest.cameras
            for error in record.errors
            if error.step == "resume" and error.at.unix >= tried
        ]
        one.problem = "; ".join(failed)
        if not failed:
            self.interrupted.pop(one.take.name, None)
        self._changed()
        return manifest

    # -- the end ------------------------------------------------------------------------------------

    async def aclose(self, *, timeout: float) -> None:
        """End all takes, and give up what takes longer: its journal or its manifest says what is left."""
        for one in self._running.values():
            one.end.set()
        takes = [one.take for one in self._running.values()]
        await finish(self._end_all(takes, timeout))
        try:
            await self._scope.aclose(
                timeout=_RESUME_LIMITS.cancel_timeout if self.interrupted else _ABORT_SECONDS
            )
        except TimeoutError as error:
            _LOG.warning("%s", error)

    async def _end_all(self, takes: list[Take], timeout: float) -> None:
        jobs = {one.job for one in self._running.values() if one.job is not None}
        if not jobs:
            return
        # In order, as long as there is time; a take that is being collected is not begun anew by this.
        _, late = await asyncio.wait(jobs, timeout=timeout * 0.5)
        if not late:
            return
        endings = TaskScope("end of takes", on_failure=lambda name, error: None)
        left = {
            endings.spawn(take.aclose(timeout=timeout * 0.5), name=take.name)
            for take in takes
            if take.state is not TakeState.DONE
        }
        if left:
            _, late_too = await asyncio.wait(left, timeout=timeout * 0.5)
            if late_too:
                for take in takes:
                    if take.state is not TakeState.DONE:
                        left.add(endings.spawn(_aborted(take), name=f"abort {take.name}"))
                await asyncio.wait(left, timeout=_ABORT_SECONDS)
        try:
            await endings.aclose(timeout=0.5)
        except TimeoutError as error:
            _LOG.warning("%s", error)


@dataclass(frozen=True, slots=True)
class _Known:
    """A session that connects to nobody: an interrupted take reaches the cameras of this bridge only."""

    session: Session
    reached: set[str] = field(default_factory=set)

    @property
    def cameras(self) -> Mapping[str, Camera]:
        """The cameras at hand."""
        return self.session.cameras

    async def connect(self, address: str, *, credentials: Credentials | None = None) -> Camera:
        """Refuse: what a manifest names is not a place this bridge was told to reach."""
        raise ConnectionError(f"the camera at {address} is not available, or not one of this bridge's")

    def emit(self, event: Event) -> None:
        """Tell everyone who listens to the session."""
        self.session.emit(event)


async def _aborted(take: Take) -> None:
    await take.abort()


def _says_recording(record: CameraRecord) -> bool:
    if record.answer_meaning == "recording" or record.kind == "still":
        return True
    return any(one.source in _SAYS_RECORDING and one.latest is not None for one in record.evidence)


def _of_cameras(manifest: Manifest) -> list[dict[str, Any]]:
    """What became of the start of each camera."""
    told = []
    for record in manifest.cameras:
        one: dict[str, Any] = {"id": record.id, "key": key_of(record.id)}
        one["accepted"] = record.accepted_at is not None
        one["recording"] = one["accepted"] and _says_recording(record)
        if record.first_frame_at is not None:
            one["first_frame"] = round(record.first_frame_at.unix, 3)
            one["first_frame_source"] = record.first_frame_source
        errors = [error for error in record.errors if error.step in ("arm", "start")]
        if errors:
            one["error"], one["message"] = errors[0].error, errors[0].message
        told.append(one)
    return told


def _begun(take: Take) -> dict[str, Any]:
    manifest = take.manifest
    answer: dict[str, Any] = {"ok": True, "take": take.name, "directory": str(take.directory)}
    answer["cameras"] = _of_cameras(manifest)
    failed = [one["id"] for one in answer["cameras"] if not one["accepted"]]
    if failed:
        answer["failed"] = failed
    if manifest.missing:
        answer["missing"] = [one.id or one.address for one in manifest.missing]
    return answer


def _failed(take: Take, error: Exception | None) -> dict[str, Any]:
    """What became of a take in which nobody started."""
    manifest = take.manifest
    try:
        directory = str(take.directory)
    except StateError:
        directory = ""
    if error is not None:
        answer = _answer(take.name, directory, error)
    else:
        told = [one for one in _of_cameras(manifest) if "error" in one]
        first = told[0] if told else {"id": "", "error": "TimeoutError", "message": "no camera has answered"}
        words = f"{first['id']} does not record: {first['message']}"
        if len(manifest.cameras) > 1:
            words = f"none of {len(manifest.cameras)} cameras records; {words}"
        answer = {"ok": False, "error": first["error"], "message": words}
        answer |= {"take": take.name, "directory": directory}
    answer["cameras"] = _of_cameras(manifest)
    return answer


def _answer(take: str, directory: str, error: Exception) -> dict[str, Any]:
    named = {"error": type(error).__name__, "message": str(error)}
    return {"ok": False, **named, "take": take, "directory": directory}


def _ended(manifest: Manifest, directory: str) -> dict[str, Any]:
    """What came of a take: it is well if files of it are here, whole or not."""
    files = sum(file.state is FileState.ARRIVED for camera in manifest.cameras for file in camera.files)
    answer: dict[str, Any] = {"ok": files > 0, "take": manifest.take, "directory": directory}
    answer |= {"outcome": manifest.outcome.value if manifest.outcome else None, "files": files}
    problems = [f"{one.id}: {error.message}" for one in manifest.cameras for error in one.errors]
    problems += [error.message for error in manifest.errors]
    if manifest.outcome not in (Outcome.COMPLETE, Outcome.RESUMED) and problems:
        answer["problems"] = problems[:8]
    if not files:
        words = problems[0] if problems else "no camera made a file"
        answer |= {"error": "RecordingError", "message": f"take {manifest.take} has no files: {words}"}
    return answer


def _what_to_do(take: InterruptedTake) -> str:
    if not take.devices:
        return "what is left of it is collected once its cameras are available"
    names = ", ".join(sorted(take.devices))
    if take.ends_at is None:
        return f"{names} may record still: OFF ends and collects it"
    return f"{names} may record still, until its length is over or OFF ends it"
