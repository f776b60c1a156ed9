"""Commands that arrive as messages: carried out in turn, each answered with what became of it."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from asynccam.bridge.recordings import Recordings
from asynccam.bridge.topics import ALL, OFF, PRESS, key_of
from asynccam.bridge.wishes import MAX_PAYLOAD, TakeWish, read_wish
from asynccam.errors import AsynccamError, BusyError, NotFoundError, UsageError
from asynccam.model.features import Snapshot
from asynccam.runtime.disk import on_disk, storage_errors
from asynccam.runtime.tasks import TaskScope
from asynccam.session import Session

__all__ = ["Commands", "TakeWish", "read_wish"]

_LOG = logging.getLogger(__name__)

_MAX_PAYLOAD: Final = MAX_PAYLOAD
_MAX_PICTURE: Final = 32 * 1024 * 1024
_MAX_WAITING: Final = 8
_MAX_STRANGERS: Final = 64
"""Answers to commands for unknown cameras that wait to be told; beyond, none is made."""
_PICTURES: Final = "pictures"

Tell = Callable[[str, Mapping[str, Any]], Awaitable[None]]
"""Told a key and what became of a command for it."""

Show = Callable[[str, bytes], Awaitable[None]]
"""Told a key and a JPEG picture."""


@dataclass(slots=True)
class _Line:
    """Commands for one key, in the order in which they came.

    Attributes:
        waiting: Name and payload of each; the first is being carried out.
        refused: Commands that found the line full and have not been answered yet, by name.
        worker: Carries them out.
        refuser: Answers those that were refused.
    """

    waiting: deque[tuple[str, bytes]] = field(default_factory=deque)
    refused: dict[str, int] = field(default_factory=dict)
    worker: "asyncio.Task[None] | None" = None
    refuser: "asyncio.Task[None] | None" = None


class Commands:
    """Carries out what messages ask for.

    What is for one key is carried out and answered in order; an ``OFF`` ends at once a start that is under
    way before it. However many commands come, only so many wait, and the others are refused.

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
        self.recordings = Recordings(session, directory, on_takes)
        self._session = session
        self._directory = directory
        self._tell = tell
        self._show = show
        self._scope = TaskScope("commands")
        self._lines: dict[str, _Line] = {}
        self._strangers: deque[tuple[str, str]] = deque()
        self._stranger: asyncio.Task[None] | None = None
        self._closed = False

    def start(self) -> None:
        """Look for takes that an earlier bridge left unfinished."""
        self.recordings.start()

    def accept(self, key: str, name: str, payload: bytes) -> None:
        """Begin to carry out a command; what becomes of it is told."""
        if self._closed:
            return
        if key != ALL and not self._knows(key):
            self._refuse_stranger(key, name)
            return
        line = self._lines.setdefault(key, _Line())
        if len(line.waiting) >= _MAX_WAITING:
            line.refused[name] = line.refused.get(name, 0) + 1
            if line.refuser is None or line.refuser.done():
                line.refuser = self._scope.spawn(self._refuse(key, line), name=f"refuse {key}")
            return
        line.waiting.append((name, payload))
        if name == "record" and payload == OFF.encode():
            self.recordings.call_off(key)
        if line.worker is None or line.worker.done():
            line.worker = self._scope.spawn(self._work(key, line), name=f"commands for {key}")

    async def aclose(self, *, timeout: float) -> None:
        """End the takes that run, in order, bringing home what exists; then let go of everything.

        Args:
            timeout: Seconds; what is not done by then is left for the next bridge to resume.
        """
        self._closed = True
        await self.recordings.aclose(timeout=timeout)
        await self._scope.aclose()

    # -- the order ----------------------------------------------------------------------------------

    def _knows(self, key: str) -> bool:
        known = key in self._lines or any(key_of(camera) == key for camera in self._session.cameras)
        return known or self.recordings.has_left(key)

    async def _work(self, key: str, line: _Line) -> None:
        while line.waiting:
            name, payload = line.waiting[0]
            try:
                await self._answer(key, name, payload)
            finally:
                line.waiting.popleft()

    def _is_called_off(self, key: str) -> bool:
        """Return whether an ``OFF`` waits behind the command that is being carried out."""
        return ("record", OFF.encode()) in list(self._lines[key].waiting)[1:]

    async def _refuse(self, key: str, line: _Line) -> None:
        """Answer those that found the line full; as many as came meanwhile have one answer together."""
        while line.refused:
            name = next(iter(line.refused))
            count = line.refused.pop(name)
            words = f"{_MAX_WAITING} commands for {key} are waiting already"
            await self._tell(key, _error(name, BusyError(words)) | {"refused": count})

    def _refuse_stranger(self, key: str, name: str) -> None:
        if len(self._strangers) >= _MAX_STRANGERS:
            return
        self._strangers.append((key, name))
        if self._stranger is None or self._stranger.done():
            self._stranger = self._scope.spawn(self._answer_strangers(), name="strangers")

    async def _answer_strangers(self) -> None:
        while self._strangers:
            key, name = self._strangers[0]
            try:
                await self._tell(key, _error(name, NotFoundError(f"there is no camera {key}")))
            finally:
                self._strangers.popleft()

    # -- one command --------------------------------------------------------------------------------

    async def _answer(self, key: str, name: str, payload: bytes) -> None:
        try:
            result = await self._carry_out(key, name, payload)
            answer = {"command": name, "ok": True} | result
        except AsynccamError as error:
            answer = _error(name, error)
        except Exception as error:  # noqa: BLE001 - nothing may leave a command without its answer
            _LOG.exception("command %s for %s", name, key)
            answer = _error(name, error)
        if not answer["ok"]:
            _LOG.info("command %s for %s: %s", name, key, answer.get("message"))
        await self._tell(key, answer)

    async def _carry_out(self, key: str, name: str, payload: bytes) -> dict[str, Any]:
        if name == "record":
            wish = read_wish(payload)
            if wish is None:
                return await self.recordings.end(key)
            return await self.recordings.begin(key, wish, partial(self._is_called_off, key))
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
                await self._show(key, await on_disk(file.path.read_bytes))
        return {"file": str(file.path), "size": file.size}


def _error(name: str, error: Exception) -> dict[str, Any]:
    return {"command": name, "ok": False, "error": type(error).__name__, "message": str(error)}
