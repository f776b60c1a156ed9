"""Commands that arrive as messages: read strictly, carried out in turn. See docs/mqtt.md."""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from asynccam.bridge.topics import ALL, OFF, ON, PRESS, key_of
from asynccam.errors import AsynccamError, BusyError, NotFoundError, StateError, UsageError
from asynccam.model.camera import Camera
from asynccam.model.features import Record, Snapshot
from asynccam.outside import read_json
from asynccam.runtime.disk import on_disk, storage_errors
from asynccam.runtime.tasks import TaskScope
from asynccam.runtime.timing import sleep_until
from asynccam.session import Session
from asynccam.take import Take
from asynccam.wall_clock import WALL_CLOCK, unix_now

_LOG = logging.getLogger(__name__)

_MAX_PAYLOAD: Final = 4096
_MAX_PICTURE: Final = 32 * 1024 * 1024
_MAX_WAITING: Final = 8
_PICTURES: Final = "pictures"

Tell = Callable[[str, Mapping[str, Any]], Awaitable[None]]
"""Told a key and what became of a command for it."""

Show = Callable[[str, bytes], Awaitable[None]]
"""Told a key and a JPEG picture."""


@dataclass(frozen=True, slots=True)
class TakeWish:
    """What a message asks of a take.

    Attributes:
        cameras: Keys or ids; empty for all.
        duration: Seconds until it ends by itself, or None for as long as nobody ends it.
        start_in: Seconds to T0.
        name: The take's name, or None.
    """

    cameras: tuple[str, ...] = ()
    duration: float | None = None
    start_in: float = 1.0
    name: str | None = None


def read_wish(payload: bytes) -> TakeWish | None:
    """What a payload asks for: a take, or None for the end of the one that runs.

    Raises:
        UsageError: It is none of ``ON``, ``OFF`` and a JSON object of the fields of `TakeWish`.
    """
    if len(payload) > _MAX_PAYLOAD:
        raise UsageError(f"a command of {len(payload)} bytes is too long; {_MAX_PAYLOAD} are allowed")
    if payload == ON.encode():
        return TakeWish()
    if payload == OFF.encode():
        return None
    try:
        document = read_json(payload)
    except ValueError as error:
        raise UsageError(f"a recording is commanded by {ON}, {OFF} or a JSON object: {error}") from None
    if not isinstance(document, dict):
        raise UsageError(f"a recording is commanded by {ON}, {OFF} or a JSON object")
    known = {"cameras", "duration", "start_in", "name"}
    if not document.keys() <= known:
        raise UsageError(f"a take has no {', '.join(sorted(document.keys() - known))}")
    cameras, name = document.get("cameras", []), document.get("name")
    if not isinstance(cameras, list) or not all(isinstance(one, str) for one in cameras):
        raise UsageError("cameras is a list of ids")
    if name is not None and not isinstance(name, str):
        raise UsageError("name is text")
    duration = None if document.get("duration") is None else _seconds("duration", document["duration"])
    start_in = _seconds("start_in", document.get("start_in", 1.0))
    return TakeWish(tuple(cameras), duration, start_in, name)


class Commands:
    """Carries out what messages ask for.

    Args:
        session: Whose cameras obey.
        directory: Where takes and pictures go.
        tell: Told what became of each command.
        show: Told each picture that was taken.
        on_takes: Called when a take of these begins or has ended.
    """

    def __init__(
        self,
        session: Session,
        directory: Path,
        tell: Tell,
        show: Show,
        on_takes: Callable[[], None],
    ) -> None:
        self._session = session
        self._directory = directory
        self._tell = tell
        self._show = show
        self._on_takes = on_takes
        self._scope = TaskScope("commands")
        self._takes: dict[str, Take] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._ends: dict[str, asyncio.Event] = {}
        self._waiting: dict[str, int] = {}
        self._turns: dict[str, asyncio.Lock] = {}

    @property
    def takes(self) -> Mapping[str, Take]:
        """The takes that run, by the key they were started with."""
        return self._takes

    def accept(self, key: str, name: str, payload: bytes) -> None:
        """Begin to carry out a command; what becomes of it is told."""
        self._scope.spawn(self._answer(key, name, payload), name=f"{name} of {key}")

    async def aclose(self) -> None:
        """End the takes that run, in order, bringing home what exists; then let go of everything."""
        for end in self._ends.values():
            end.set()
        running = set(self._running.values())
        if running:
            await asyncio.wait(running)
        await self._scope.aclose()

    # -- one command ------------------------------------------------------------------------------

    async def _answer(self, key: str, name: str, payload: bytes) -> None:
        answer: dict[str, Any] = {"command": name}
        try:
            if self._waiting.get(key, 0) >= _MAX_WAITING:
                raise BusyError(f"{_MAX_WAITING} commands for {key} are waiting already")
            self._waiting[key] = self._waiting.get(key, 0) + 1
            try:
                async with self._turns.setdefault(key, asyncio.Lock()):
                    answer |= await self._carry_out(key, name, payload)
            finally:
                self._waiting[key] -= 1
            answer["ok"] = True
        except AsynccamError as error:
            _LOG.info("command %s for %s: %s", name, key, error)
            answer |= {"ok": False, "error": type(error).__name__, "message": str(error)}
        except Exception as error:  # noqa: BLE001 - who asked hears of it, and not only the log
            _LOG.error("command %s for %s failed", name, key, exc_info=error)
            answer |= {"ok": False, "error": type(error).__name__, "message": str(error)}
        await self._tell(key, answer)

    async def _carry_out(self, key: str, name: str, payload: bytes) -> dict[str, Any]:
        if name == "record":
            wish = read_wish(payload)
            return await (self._end(key) if wish is None else self._begin(key, wish))
        if name == "snapshot" and key != ALL:
            if payload not in (PRESS.encode(), b""):
                raise UsageError(f"a picture is commanded by {PRESS}")
            return await self._picture(key)
        raise UsageError(f"there is no command {name}")

    async def _begin(self, key: str, wish: TakeWish) -> dict[str, Any]:
        if key in self._takes:
            raise BusyError(f"take {self._takes[key].name} is running")
        if key != ALL and wish.cameras:
            raise UsageError(f"cameras are named only in commands for {ALL!r}")
        take = self._session.new_take(self._chosen(key, wish.cameras), self._directory, name=wish.name)
        self._takes[key] = take
        end = self._ends[key] = asyncio.Event()
        started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._running[key] = self._scope.spawn(self._run(key, take, wish, started, end), name=f"take {key}")
        await asyncio.wait({started, self._running[key]}, return_when=asyncio.FIRST_COMPLETED)
        if started.done():
            started.result()
        return {"take": take.name, "directory": str(take.directory)}

    async def _run(
        self, key: str, take: Take, wish: TakeWish, started: "asyncio.Future[None]", end: asyncio.Event
    ) -> None:
        """One take from its arming to its manifest."""
        try:
            self._on_takes()
            try:
                await take.arm(duration=wish.duration)
                await take.start(start_in=wish.start_in)
            except AsynccamError as error:
                started.set_exception(error)
                await take.aclose()
                return
            started.set_result(None)
            await self._until_end(take, wish.duration, end)
            await take.stop()
            await take.collect()
        except AsynccamError as error:
            _LOG.warning("take %s: %s", take.name, error)
        finally:
            del self._takes[key], self._running[key], self._ends[key]
            self._on_takes()

    async def _until_end(self, take: Take, duration: float | None, end: asyncio.Event) -> None:
        """Wait until a take has its length, counted from T0 as `Take.run` does, or is ended."""
        asked = self._scope.spawn(end.wait(), name="end")
        waits: set[asyncio.Task[Any]] = {asked}
        start = take.manifest.start
        if duration is not None and start is not None:
            left = start.t0_computer.unix + duration - unix_now()
            moment = WALL_CLOCK.elapsed() + left
            waits.add(self._scope.spawn(sleep_until(moment), name="length"))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waits:
                task.cancel()

    async def _end(self, key: str) -> dict[str, Any]:
        take = self._takes.get(key)
        if take is None:
            raise StateError(f"nothing that was started by {key} is recording")
        running = self._running[key]
        self._ends[key].set()
        await asyncio.wait({running})
        manifest = take.manifest
        return {
            "take": take.name,
            "directory": str(take.directory),
            "outcome": manifest.outcome.value if manifest.outcome else None,
            "files": sum(len(camera.files) for camera in manifest.cameras),
        }

    async def _picture(self, key: str) -> dict[str, Any]:
        (camera,) = self._chosen(key, ())
        directory = self._directory / _PICTURES
        with storage_errors("make", directory):
            await on_disk(partial(directory.mkdir, parents=True, exist_ok=True))
        file = await camera.feature(Snapshot).snapshot(directory)
        if file.size <= _MAX_PICTURE:
            with storage_errors("read", file.path):
                await self._show(key, await on_disk(file.path.read_bytes))
        return {"file": str(file.path), "size": file.size}

    def _chosen(self, key: str, names: Sequence[str]) -> list[Camera]:
        cameras = list(self._session.cameras.values())
        if key != ALL:
            names = (key,)
        if not names:
            return [camera for camera in cameras if camera.supports(Record)]
        chosen = [camera for camera in cameras if camera.id in names or key_of(camera.id) in names]
        missing = set(names) - {camera.id for camera in chosen} - {key_of(camera.id) for camera in chosen}
        if missing:
            raise NotFoundError(f"there is no camera {', '.join(sorted(missing))}")
        return chosen


def _seconds(what: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise UsageError(f"{what} is a number of seconds from 0 up")
    return float(value)
