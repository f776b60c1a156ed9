"""Commands that arrive as messages: executed in order, each answered with its result."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from asynccam.bridge.recordings import Recordings
from asynccam.bridge.take_request import parse_take_request
from asynccam.bridge.topics import ALL, OFF, PRESS, key_of
from asynccam.errors import AsynccamError, BusyError, NotFoundError, UsageError
from asynccam.model.features import Snapshot
from asynccam.runtime.disk import on_disk, storage_errors
from asynccam.runtime.tasks import TaskScope
from asynccam.session import Session

_LOG = logging.getLogger(__name__)

_MAX_PICTURE: Final = 32 * 1024 * 1024  # bytes; a larger picture is kept as a file and not published
_MAX_WAITING: Final = 8  # commands for one key
_MAX_UNKNOWN: Final = 64
"""Unanswered commands for unknown cameras; further ones are ignored."""
_PICTURES: Final = "pictures"

PublishResult = Callable[[str, Mapping[str, Any]], Awaitable[None]]
"""Called with a key and the result of a command for it."""

PublishPicture = Callable[[str, bytes], Awaitable[None]]
"""Called with a key and a JPEG picture."""


@dataclass(slots=True)
class _CommandQueue:
    """Commands for one key."""

    waiting: deque[tuple[str, bytes]] = field(default_factory=deque)  # name, payload; the first is executed
    refused: dict[str, int] = field(default_factory=dict)  # unanswered ones that found it full, by name
    task: "asyncio.Task[None] | None" = None
    refusal_task: "asyncio.Task[None] | None" = None


class Commands:
    """Execution of commands, with a bounded queue for each key.

    Commands for one key are executed and answered in order. An ``OFF`` ends a start before it at once.
    ``directory`` is the parent of takes and pictures; ``on_takes`` is called when one of these takes begins
    or has ended.
    """

    def __init__(
        self,
        session: Session,
        directory: Path,
        publish_result: PublishResult,
        publish_picture: PublishPicture,
        on_takes: Callable[[], None],
    ) -> None:
        self.recordings = Recordings(session, directory, on_takes)
        self._session = session
        self._directory = directory
        self._publish_result = publish_result
        self._publish_picture = publish_picture
        self._scope = TaskScope("commands")
        self._queues: dict[str, _CommandQueue] = {}
        self._unknown: deque[tuple[str, str]] = deque()
        self._unknown_task: asyncio.Task[None] | None = None
        self._closed = False

    def accept(self, key: str, name: str, payload: bytes) -> None:
        """Queue a command; its result is published."""
        if self._closed:
            return
        if key != ALL and not self._is_known(key):
            self._refuse_unknown(key, name)
            return
        queue = self._queues.setdefault(key, _CommandQueue())
        if len(queue.waiting) >= _MAX_WAITING:
            queue.refused[name] = queue.refused.get(name, 0) + 1
            if queue.refusal_task is None or queue.refusal_task.done():
                queue.refusal_task = self._scope.spawn(self._answer_refused(key, queue), name=f"refuse {key}")
            return
        queue.waiting.append((name, payload))
        if name == "record" and payload == OFF.encode():
            self.recordings.cancel_start(key)
        if queue.task is None or queue.task.done():
            queue.task = self._scope.spawn(self._run_queue(key, queue), name=f"commands for {key}")

    async def aclose(self, *, timeout: float) -> None:
        """End running takes and download their files, within ``timeout`` seconds."""
        self._closed = True
        await self.recordings.aclose(timeout=timeout)
        await self._scope.aclose()

    # -- the queues ----------------------------------------------------------------------------------

    def _is_known(self, key: str) -> bool:
        known = key in self._queues or any(key_of(camera) == key for camera in self._session.cameras)
        return known or self.recordings.has_interrupted(key)

    async def _run_queue(self, key: str, queue: _CommandQueue) -> None:
        while queue.waiting:
            name, payload = queue.waiting[0]
            try:
                await self._execute_and_answer(key, name, payload)
            finally:
                queue.waiting.popleft()

    def _is_cancelled(self, key: str) -> bool:
        """Return whether an ``OFF`` waits behind the command that is being executed."""
        return ("record", OFF.encode()) in list(self._queues[key].waiting)[1:]

    async def _answer_refused(self, key: str, queue: _CommandQueue) -> None:
        """Answer commands that found the queue full, all of one name with one result."""
        while queue.refused:
            name = next(iter(queue.refused))
            count = queue.refused.pop(name)
            message = f"{_MAX_WAITING} commands for {key} are waiting already"
            await self._publish_result(key, _error(name, BusyError(message)) | {"refused": count})

    def _refuse_unknown(self, key: str, name: str) -> None:
        if len(self._unknown) >= _MAX_UNKNOWN:
            return
        self._unknown.append((key, name))
        if self._unknown_task is None or self._unknown_task.done():
            self._unknown_task = self._scope.spawn(self._answer_unknown(), name="strangers")

    async def _answer_unknown(self) -> None:
        while self._unknown:
            key, name = self._unknown[0]
            try:
                await self._publish_result(key, _error(name, NotFoundError(f"there is no camera {key}")))
            finally:
                self._unknown.popleft()

    # -- one command --------------------------------------------------------------------------------

    async def _execute_and_answer(self, key: str, name: str, payload: bytes) -> None:
        try:
            result = await self._execute(key, name, payload)
            answer = {"command": name, "ok": True} | result
        except AsynccamError as error:
            answer = _error(name, error)
        except Exception as error:  # noqa: BLE001 - every command gets a result
            _LOG.exception("command %s for %s", name, key)
            answer = _error(name, error)
        if not answer["ok"]:
            _LOG.info("command %s for %s: %s", name, key, answer.get("message"))
        await self._publish_result(key, answer)

    async def _execute(self, key: str, name: str, payload: bytes) -> dict[str, Any]:
        if name == "record":
            request = parse_take_request(payload)
            if request is None:
                return await self.recordings.end(key)
            return await self.recordings.begin(key, request, partial(self._is_cancelled, key))
        if name == "snapshot" and key != ALL:
            if payload not in (PRESS.encode(), b""):
                raise UsageError(f"a picture is commanded by {PRESS}")
            return await self._picture(key)
        raise UsageError(f"there is no command {name}")

    async def _picture(self, key: str) -> dict[str, Any]:
        camera = self.recordings.camera(key)
        directory = self._directory / _PICTURES
        with storage_errors("make", directory):
            await on_disk(partial(directory.mkdir, parents=True, exist_ok=True))
        file = await camera.feature(Snapshot).snapshot(directory)
        if file.size <= _MAX_PICTURE:
            with storage_errors("read", file.path):
                await self._publish_picture(key, await on_disk(file.path.read_bytes))
        return {"file": str(file.path), "size": file.size}


def _error(name: str, error: Exception) -> dict[str, Any]:
    return {"command": name, "ok": False, "error": type(error).__name__, "message": str(error)}
