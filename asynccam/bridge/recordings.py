"""Takes that messages start and stop, and takes that an earlier bridge left. See docs/mqtt.md."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from asynccam.bridge.take_request import TakeRequest
from asynccam.bridge.topics import ALL, key_of
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

_STATUS_TIMEOUT: Final = 3.0
"""Seconds a camera has to answer, before a take, whether it records already."""
_EVIDENCE_TIMEOUT: Final = 3.0
"""Seconds that the result of ON waits for devices to confirm that they record."""
_CHECK_INTERVAL: Final = 0.1
_RETRY_INTERVAL: Final = 2.0
"""Seconds between two checks whether the cameras of an interrupted take are available."""
_ABORT_TIMEOUT: Final = 1.0
_RESUME_LIMITS: Final = TakeLimits(cancel_timeout=2.0)
_MEASURED_SOURCES: Final = frozenset({"seen", "status", "device", "answer"})
"""Sources of a first frame that come from the camera or its recorder, not from a schedule."""


@dataclass(slots=True)
class _Running:
    """A take that a message started: ``end`` stops it, ``started`` is the result of its start."""

    take: Take
    cameras: frozenset[str]
    end: asyncio.Event
    started: "asyncio.Future[dict[str, Any]]"
    job: "asyncio.Task[None] | None" = None


@dataclass(slots=True)
class Interrupted:
    """A take that an earlier bridge left; ``problem`` is why it could not be finished yet, or ``""``."""

    take: InterruptedTake
    problem: str = ""
    resuming: "asyncio.Task[Manifest] | None" = None


class Recordings:
    """Takes by the key they were started with, and interrupted ones until they are finished.

    ``on_change`` is called when a take begins, goes on or has ended.
    """

    def __init__(self, session: Session, directory: Path, on_change: Callable[[], None]) -> None:
        self._session = session
        self._directory = directory
        self._on_change = on_change
        self._scope = TaskScope("recordings")
        self._running: dict[str, _Running] = {}
        self.interrupted: dict[str, Interrupted] = {}

    def start(self) -> None:
        """Find interrupted takes, and finish or keep them; see docs/mqtt.md."""
        self._scope.spawn(self._find_interrupted(), name="interrupted takes")

    @property
    def takes(self) -> Mapping[str, Take]:
        """Running takes, by the key they were started with."""
        return {key: running.take for key, running in self._running.items()}

    def camera(self, key: str) -> Camera:
        """Return the camera of a key, or raise `NotFoundError`."""
        for camera in self._session.cameras.values():
            if key in (camera.id, key_of(camera.id)):
                return camera
        raise NotFoundError(f"there is no camera {key}")

    def notices(self) -> list[dict[str, Any]]:
        """Return what a person must know of interrupted takes."""
        return [
            {
                "what": "interrupted take",
                "take": entry.take.name,
                "directory": str(entry.take.directory),
                "cameras": sorted(entry.take.left),
                "message": entry.problem or _instruction(entry.take),
            }
            for entry in self.interrupted.values()
        ]

    # -- ON -----------------------------------------------------------------------------------------

    async def begin(self, key: str, request: TakeRequest, is_cancelled: Callable[[], bool]) -> dict[str, Any]:
        """Start a take of one camera's key, or of `ALL`; return the result of each camera.

        ``is_cancelled`` is called before any command is sent; from then on `cancel_start` ends the start.

        Raises:
            BusyError: A camera is in another take, or records for another program.
            ConnectionError: No camera is available.
            NotFoundError, UsageError: The cameras are not named correctly.
            StateError: The start was cancelled.
        """
        if key in self._running:
            raise BusyError(f"take {self._running[key].take.name} is running")
        if key != ALL and request.cameras:
            raise UsageError(f"cameras are named only in commands for {ALL!r}")
        cameras, missing = self._chosen(key, request)
        self._check_free(cameras)
        await self._check_idle(cameras)
        if is_cancelled():
            raise StateError(f"the start for {key} was ended before it had begun")
        self._check_free(cameras)  # a program may have begun a take meanwhile
        take = self._session.new_take(cameras, self._directory, name=request.name, missing=missing)
        started: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        running = self._running[key] = _Running(
            take, frozenset(camera.id for camera in cameras), asyncio.Event(), started
        )
        running.job = self._scope.spawn(self._run(key, running, request), name=f"take {key}")
        either: set[asyncio.Future[Any]] = {started, running.job}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not started.done():
            raise StateError(f"take {take.name} was ended before it had begun")
        return started.result()

    def _chosen(self, key: str, request: TakeRequest) -> tuple[list[Camera], dict[str, Unavailable]]:
        """Return the cameras to record with, and the unavailable ones that will be missing."""
        if key != ALL:
            return [self.camera(key)], {}
        if request.cameras:
            return list({camera.id: camera for camera in map(self.camera, request.cameras)}.values()), {}
        recorders = [camera for camera in self._session.cameras.values() if camera.supports(Record)]
        unavailable = self._session.unavailable
        cameras = self._session.cameras
        missing = {
            key: entry
            for key, entry in unavailable.items()
            # An address is missing unless it is of a service with a camera that is known.
            if (
                cameras[key].supports(Record)
                if key in cameras
                else not any(camera.startswith(f"{key}/") for camera in cameras)
            )
        }
        present = [camera for camera in recorders if camera.id not in unavailable]
        if not present and missing:
            name, why = next(iter(missing.items()))
            raise ConnectionError(f"no camera is available; {name}: {why.error or 'unavailable'}")
        return present, missing

    def _check_free(self, cameras: Iterable[Camera]) -> None:
        for camera in cameras:
            begun = (running.take for running in self._running.values() if camera.id in running.cameras)
            take = self._session.take_of(camera) or next(begun, None)
            if take is not None:
                raise BusyError(
                    f"{camera.id} is in take {take.name}, which is {take.state.value}; end that one first"
                )
            left = self.interrupted_with(camera.id)
            if left is not None:
                raise BusyError(
                    f"{camera.id} is in take {left.take.name}, which was interrupted; OFF ends it"
                )

    async def _check_idle(self, cameras: Iterable[Camera]) -> None:
        """Refuse a camera that records for another program, or a single one that is unavailable."""
        found = await self._scope.gather(
            {camera.id: self._state_of(camera) for camera in cameras}, name="status"
        )
        for key, state in found.items():
            if isinstance(state, Exception):
                if key in self._session.unavailable and len(found) == 1:
                    raise ConnectionError(f"{key} is unavailable: {state}") from state
            elif state in (CameraState.RECORDING, CameraState.STOPPING):
                raise BusyError(
                    f"{key} is {state.value} for another program, which is left alone; stop it there first"
                )
            elif state is CameraState.UNAVAILABLE and len(found) == 1:
                raise ConnectionError(f"{key} is unavailable, as its service says")

    async def _state_of(self, camera: Camera) -> CameraState:
        async with deadline(_STATUS_TIMEOUT, f"status of {camera.id}"):
            return (await camera.status()).state

    async def _run(self, key: str, running: _Running, request: TakeRequest) -> None:
        """Run one take from arming to the manifest."""
        take = running.take
        try:
            self._on_change()
            if await self._start_unless_cancelled(running, request):
                await self._wait_for_end(take, request.duration, running.end)
                self._on_change()
                await take.stop()
                await take.collect()
        except AsynccamError as error:
            _LOG.warning("take %s: %s", take.name, error)
            if not running.started.done():
                running.started.set_result(_failure_result(take, error))
        finally:
            del self._running[key]
            self._on_change()

    async def _start_unless_cancelled(self, running: _Running, request: TakeRequest) -> bool:
        """Arm and start, unless cancelled meanwhile; return whether a camera records."""
        starting = self._scope.spawn(self._start(running.take, request), name="start")
        cancelled = self._scope.spawn(running.end.wait(), name="cancelled start")
        try:
            await asyncio.wait({starting, cancelled}, return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():
                await running.take.aclose()  # which ends the start, with whatever result
                await asyncio.wait({starting})
                error = StateError(f"take {running.take.name} was ended before all cameras had answered")
                running.started.set_result(_failure_result(running.take, error))
                return False
        finally:
            cancelled.cancel()
            starting.cancel()
        begun = starting.result()
        if not begun["ok"]:
            await running.take.aclose()  # so that its cameras are free for the next command
        running.started.set_result(begun)
        return bool(begun["ok"])

    async def _start(self, take: Take, request: TakeRequest) -> dict[str, Any]:
        """Arm and start; return the result."""
        await take.arm(duration=request.duration)
        records = take.manifest.cameras
        if all(any(error.step == "arm" for error in record.errors) for record in records):
            return _failure_result(take, None)
        await take.start(start_in=request.start_in)
        self._on_change()
        while take.awaited:  # noqa: ASYNC110 - a take has no event for an accepted or failed start
            await asyncio.sleep(_CHECK_INTERVAL)
        if not any(record.accepted_at for record in take.manifest.cameras):
            return _failure_result(take, None)
        await self._wait_for_evidence(take)
        return _start_result(take)

    async def _wait_for_evidence(self, take: Take) -> None:
        """Wait for devices that can be asked to confirm that they record."""
        until = WALL_CLOCK.elapsed() + _EVIDENCE_TIMEOUT
        while WALL_CLOCK.elapsed() < until:
            silent = [
                record for record in take.manifest.cameras if record.accepted_at and not _is_recording(record)
            ]
            if not any(self._can_be_asked(record.id) for record in silent):
                return
            await asyncio.sleep(_CHECK_INTERVAL)

    def _can_be_asked(self, camera: str) -> bool:
        known = self._session.cameras.get(camera)
        return known is not None and isinstance(known.features.get(Record), ReportsRecording)

    async def _wait_for_end(self, take: Take, duration: float | None, end: asyncio.Event) -> None:
        """Wait until ``duration`` seconds from T0, as `Take.run` does, or until the end is requested."""
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

    def cancel_start(self, key: str) -> None:
        """End a start that is under way. Its own result says so, and precedes that of the OFF."""
        running = self._running.get(key)
        if running is not None and not running.started.done():
            running.end.set()

    async def end(self, key: str) -> dict[str, Any]:
        """End the take of a key, or finish an interrupted one; return the result.

        Raises:
            StateError: There is neither.
        """
        running = self._running.get(key)
        if running is not None and running.job is not None:
            running.end.set()
            await asyncio.wait({running.job})
            return _end_result(running.take.manifest, str(running.take.directory))
        left = [entry for entry in self.interrupted.values() if key == ALL or key in self._keys(entry)]
        if left:
            results = [await self._resumed(entry) for entry in left]
            return next((result for result in results if not result.get("ok", True)), results[-1])
        message = f"nothing that was started by {key} is recording"
        if key != ALL:
            camera = self.camera(key)
            take = self._session.take_of(camera)
            if take is not None:
                message += f"; {camera.id} is in take {take.name}, which is left alone"
        raise StateError(message)

    # -- interrupted takes --------------------------------------------------------------------------

    def has_interrupted(self, key: str) -> bool:
        """Return whether an interrupted take has the camera of a key."""
        return any(key in self._keys(entry) for entry in self.interrupted.values())

    def interrupted_with(self, camera: str) -> Interrupted | None:
        """Return the interrupted take that is not finished with a camera, or None."""
        return next((entry for entry in self.interrupted.values() if camera in entry.take.left), None)

    def _keys(self, entry: Interrupted) -> set[str]:
        return {key_of(camera) for camera in entry.take.cameras}

    async def _find_interrupted(self) -> None:
        """Find interrupted takes; those without a camera of this session wait until one appears."""
        found = await interrupted_takes(self._directory)
        while found:
            for take in list(found):
                if not any(self._session.expects(camera, place) for camera, place in take.cameras.items()):
                    continue
                found.remove(take)
                entry = self.interrupted[take.name] = Interrupted(take)
                _LOG.warning(
                    "take %s in %s was interrupted; %s", take.name, take.directory, _instruction(take)
                )
                self._scope.spawn(self._resume_when_due(entry), name=f"interrupted take {take.name}")
                self._on_change()
            await asyncio.sleep(_RETRY_INTERVAL)

    async def _resume_when_due(self, entry: Interrupted) -> None:
        """Resume an interrupted take as soon as nothing records, or its duration is over."""
        if entry.take.devices:
            if entry.take.ends_at is None:
                return  # it records, and OFF ends it
            await sleep_until(entry.take.ends_at)
        while entry.take.name in self.interrupted:
            here = self._session.cameras.keys() - self._session.unavailable.keys()
            if entry.take.left <= here:
                await self._resumed(entry)
                return  # what failed is a notice, and OFF tries again
            await asyncio.sleep(_RETRY_INTERVAL)

    async def _resumed(self, entry: Interrupted) -> dict[str, Any]:
        """Resume a take, or join its resuming; return the result."""
        if entry.resuming is None or entry.resuming.done():
            known = _KnownCameras(self._session)
            entry.resuming = self._scope.spawn(self._resume(entry, known), name=f"resume {entry.take.name}")
        try:
            await asyncio.wait({entry.resuming})
            manifest = entry.resuming.result()
        except AsynccamError as error:
            return _error_result(entry.take.name, str(entry.take.directory), error)
        result = _end_result(manifest, str(entry.take.directory))
        if entry.problem:
            result |= {"ok": False, "error": "ConnectionError", "message": entry.problem}
        return result

    async def _resume(self, entry: Interrupted, known: "_KnownCameras") -> Manifest:
        try:
            manifest = await resume_take(entry.take.directory, known, limits=_RESUME_LIMITS)
        except AsynccamError as error:
            entry.problem = str(error)
            if isinstance(error, StateError):  # another program has finished it
                self.interrupted.pop(entry.take.name, None)
            self._on_change()
            raise
        tried = manifest.resumed[-1].unix if manifest.resumed else 0.0
        failed = [
            f"{record.id}: {error.message}"
            for record in manifest.cameras
            for error in record.errors
            if error.step == "resume" and error.at.unix >= tried
        ]
        entry.problem = "; ".join(failed)
        if not failed:
            self.interrupted.pop(entry.take.name, None)
        self._on_change()
        return manifest

    # -- the end ------------------------------------------------------------------------------------

    async def aclose(self, *, timeout: float) -> None:
        """End all takes within ``timeout`` seconds; the next bridge resumes those that take longer."""
        for running in self._running.values():
            running.end.set()
        takes = [running.take for running in self._running.values()]
        await finish(self._end_all(takes, timeout))
        try:
            await self._scope.aclose(
                timeout=_RESUME_LIMITS.cancel_timeout if self.interrupted else _ABORT_TIMEOUT
            )
        except TimeoutError as error:
            _LOG.warning("%s", error)

    async def _end_all(self, takes: list[Take], timeout: float) -> None:
        jobs = {running.job for running in self._running.values() if running.job is not None}
        if not jobs:
            return
        # First let each end by itself; aclose and then abort those that take too long.
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
                await asyncio.wait(left, timeout=_ABORT_TIMEOUT)
        try:
            await endings.aclose(timeout=0.5)
        except TimeoutError as error:
            _LOG.warning("%s", error)


@dataclass(frozen=True, slots=True)
class _KnownCameras:
    """A session that refuses to connect: an interrupted take reaches the cameras of this bridge only."""

    session: Session

    @property
    def cameras(self) -> Mapping[str, Camera]:
        """Cameras of the session."""
        return self.session.cameras

    async def connect(self, address: str, *, credentials: Credentials | None = None) -> Camera:
        """Refuse: a manifest must not make the bridge connect to other addresses."""
        raise ConnectionError(f"the camera at {address} is not available, or not one of this bridge's")

    def emit(self, event: Event) -> None:
        """Emit on the session."""
        self.session.emit(event)


async def _aborted(take: Take) -> None:
    await take.abort()


def _is_recording(record: CameraRecord) -> bool:
    if record.answer_meaning == "recording" or record.kind == "still":
        return True
    return any(
        evidence.source in _MEASURED_SOURCES and evidence.latest is not None for evidence in record.evidence
    )


def _camera_results(manifest: Manifest) -> list[dict[str, Any]]:
    """Return the result of each camera's start."""
    results = []
    for record in manifest.cameras:
        result: dict[str, Any] = {"id": record.id, "key": key_of(record.id)}
        result["accepted"] = record.accepted_at is not None
        result["recording"] = result["accepted"] and _is_recording(record)
        if record.first_frame_at is not None:
            result["first_frame"] = round(record.first_frame_at.unix, 3)
            result["first_frame_source"] = record.first_frame_source
        errors = [error for error in record.errors if error.step in ("arm", "start")]
        if errors:
            result["error"], result["message"] = errors[0].error, errors[0].message
        results.append(result)
    return results


def _start_result(take: Take) -> dict[str, Any]:
    manifest = take.manifest
    answer: dict[str, Any] = {"ok": True, "take": take.name, "directory": str(take.directory)}
    answer["cameras"] = _camera_results(manifest)
    failed = [camera["id"] for camera in answer["cameras"] if not camera["accepted"]]
    if failed:
        answer["failed"] = failed
    if manifest.missing:
        answer["missing"] = [missing.id or missing.address for missing in manifest.missing]
    return answer


def _failure_result(take: Take, error: Exception | None) -> dict[str, Any]:
    """Return the result of a take that did not start."""
    manifest = take.manifest
    try:
        directory = str(take.directory)
    except StateError:
        directory = ""
    if error is not None:
        answer = _error_result(take.name, directory, error)
    else:
        failed = [camera for camera in _camera_results(manifest) if "error" in camera]
        first = (
            failed[0] if failed else {"id": "", "error": "TimeoutError", "message": "no camera has answered"}
        )
        message = f"{first['id']} does not record: {first['message']}"
        if len(manifest.cameras) > 1:
            message = f"none of {len(manifest.cameras)} cameras records; {message}"
        answer = {"ok": False, "error": first["error"], "message": message}
        answer |= {"take": take.name, "directory": directory}
    answer["cameras"] = _camera_results(manifest)
    return answer


def _error_result(take: str, directory: str, error: Exception) -> dict[str, Any]:
    named = {"error": type(error).__name__, "message": str(error)}
    return {"ok": False, **named, "take": take, "directory": directory}


def _end_result(manifest: Manifest, directory: str) -> dict[str, Any]:
    """Return the result of an ended take: ``ok`` if any file was downloaded, complete or not."""
    files = sum(file.state is FileState.ARRIVED for camera in manifest.cameras for file in camera.files)
    answer: dict[str, Any] = {"ok": files > 0, "take": manifest.take, "directory": directory}
    answer |= {"outcome": manifest.outcome.value if manifest.outcome else None, "files": files}
    problems = [f"{camera.id}: {error.message}" for camera in manifest.cameras for error in camera.errors]
    problems += [error.message for error in manifest.errors]
    if manifest.outcome not in (Outcome.COMPLETE, Outcome.RESUMED) and problems:
        answer["problems"] = problems[:8]
    if not files:
        message = problems[0] if problems else "no camera made a file"
        answer |= {"error": "RecordingError", "message": f"take {manifest.take} has no files: {message}"}
    return answer


def _instruction(take: InterruptedTake) -> str:
    if not take.devices:
        return "what is left of it is collected once its cameras are available"
    names = ", ".join(sorted(take.devices))
    if take.ends_at is None:
        return f"{names} may record still: OFF ends and collects it"
    return f"{names} may record still, until its length is over or OFF ends it"
