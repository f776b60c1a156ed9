"""``config.json``: read, watched, and rewritten atomically. See docs/snapshot-server.md."""

import asyncio
import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from asynccam.errors import NotFoundError, StateError, StorageError, UsageError
from asynccam.runtime.disk import atomic_write, on_disk, read_secret_file, remove_unfinished, storage_errors
from asynccam.runtime.event_hub import EventHub
from asynccam.runtime.tasks import TaskScope
from asynccam.systems.snapshot.server import json_position
from asynccam.systems.snapshot.server.events import ConfigChanged
from asynccam.systems.snapshot.server.settings import (
    CHANGEABLE,
    Allowed,
    CameraConfig,
    Problem,
    ServerConfig,
    camera_at,
    changed_settings,
    check_camera,
    field_name,
    read_document,
)

T = TypeVar("T")

_MAX_BYTES: Final = 4 << 20
_Stamp = tuple[int, int, int] | None
"""Inode, size and time of change; None if the file does not exist."""


class ConfigFile:
    """A ``config.json`` and the configuration in force; an async context manager that watches the file.

    A missing file is an empty configuration. While a file is not JSON, the last valid configuration stays in
    force, and `problems` says where the error is. An invalid entry does not affect the others.

    Methods that change the file raise `asynccam.errors.StateError` while it is not JSON, and leave it as it
    is; `asynccam.errors.StorageError` if it cannot be written.

    Args:
        path: The file.
        default: Cameras while there is no file; written to it with the first change.
        events: Where `ConfigChanged` is emitted, or None.
        poll: Seconds between two checks for a change by hand.
        allowed: Devices and services that may be set over the web; by default those of
            `asynccam.systems.snapshot.server.settings.DEVICES` and those in the file.

    Attributes:
        path: The file.
        events: Where `ConfigChanged` is emitted, or None.
        allowed: Not checked by `add_camera` and `replace_camera`, but by their callers for a request.
        current: The configuration in force.
        problems: What in the file cannot be used.
    """

    def __init__(
        self,
        path: Path,
        *,
        default: Iterable[CameraConfig] = (),
        events: EventHub | None = None,
        poll: float = 1.0,
        allowed: Allowed | None = None,
    ) -> None:
        if poll <= 0:
            raise UsageError(f"poll must be > 0 s, not {poll:g}")
        self.path = path
        self.events = events
        self.allowed = allowed or Allowed()
        self.current = ServerConfig(cameras=tuple(default))
        self.allowed.learn(self.current.cameras)
        self.problems: tuple[Problem, ...] = ()
        self._poll_interval = poll
        self._stamp: _Stamp = None
        self._text: str | None = None
        self._lock = asyncio.Lock()
        self._scope = TaskScope("snapshot-config")

    @property
    def cameras(self) -> tuple[CameraConfig, ...]:
        """The cameras in force, in the file's order."""
        return self.current.cameras

    def camera(self, name: str) -> CameraConfig:
        """Return the camera of a name.

        Raises:
            NotFoundError: There is no such camera.
        """
        for camera in self.current.cameras:
            if camera.name == name:
                return camera
        raise NotFoundError(f"there is no camera named {name!r}")

    async def token(self) -> str | None:
        """Return the token that requests need, or None.

        Raises:
            StorageError: Its file cannot be read.
            UsageError: The file or the environment variable has no token.
        """
        return await read_secret(self.current.token_file, self.current.token_env, base=self.path.parent)

    async def reload(self) -> bool:
        """Read the file if it has changed; return whether it has.

        Raises:
            StorageError: It cannot be read; the configuration stays in force.
        """
        async with self._lock:
            return await self._reload()

    async def add_camera(self, fields: Mapping[str, Any] | CameraConfig) -> CameraConfig:
        """Append a camera to the file.

        Raises:
            UsageError: A field is invalid, or the name is taken; the message names the fields.
        """
        entry = fields.entry() if isinstance(fields, CameraConfig) else dict(fields)

        def add(entries: list[Any]) -> CameraConfig:
            camera = _checked(entry, _names(entries))
            entries.append(camera.entry())
            return camera

        return await self._change_cameras(add)

    async def replace_camera(self, name: str, fields: Mapping[str, Any] | CameraConfig) -> CameraConfig:
        """Change a camera's fields; those left out and unknown fields stay.

        Raises:
            NotFoundError: There is no such camera.
            UsageError: A field is invalid, or the new name is taken.
        """
        changes = fields.entry() if isinstance(fields, CameraConfig) else dict(fields)

        def change(entries: list[Any]) -> CameraConfig:
            index = _index(entries, name)
            others = _names(entries[:index] + entries[index + 1 :])
            camera = _checked({**entries[index], **changes}, others)
            entries[index] = camera.entry()
            return camera

        return await self._change_cameras(change)

    async def delete_camera(self, name: str) -> None:
        """Remove a camera from the file, even one whose entry is invalid.

        Raises:
            NotFoundError: There is no entry of that name.
        """

        def delete(entries: list[Any]) -> None:
            del entries[_index(entries, name)]

        await self._change_cameras(delete)

    def check_camera(
        self, fields: Mapping[str, Any], *, instead_of: str | None = None
    ) -> tuple[Problem, ...]:
        """Return every problem of a camera that is set over the web, perhaps instead of another one."""
        taken = [camera.name for camera in self.cameras if camera.name != instead_of]
        camera, problems = check_camera(fields, taken=taken)
        if camera is not None and camera.name in (".", ".."):  # the name is part of URLs
            return (Problem("a name cannot be dots alone, which a browser takes for a directory", "name"),)
        if camera is not None:
            return self.allowed.problems(camera)
        if fields.get("name") in taken and all(problem.field != "name" for problem in problems):
            # `check_camera` compares names last; report this problem together with the others.
            problems = (Problem("another camera already has this name", "name"), *problems)
        return problems

    def check_settings(self, changes: Mapping[str, Any]) -> tuple[Problem, ...]:
        """Return the problems of a change of settings, see `change_settings`."""
        in_force = {key: getattr(self.current, key).model_dump(exclude_none=True) for key in CHANGEABLE}
        return changed_settings(in_force, changes)[1]

    async def change_settings(self, changes: Mapping[str, Any]) -> None:
        """Change settings of the server in the file; those left out and unknown settings stay.

        A file that is a bare list of cameras becomes an object that has them.

        Args:
            changes: Values by group (``retention``, ``limits`` or ``imu``) and name; null is the default.

        Raises:
            UsageError: A setting is invalid, or can be changed by hand only; the message names it.
        """

        def change(document: Any) -> tuple[Any, None]:
            whole = {"cameras": document} if isinstance(document, list) else document
            groups, problems = changed_settings(whole, changes)
            if problems:
                raise UsageError("; ".join(map(str, problems)))
            return (whole | groups if groups else document), None

        await self._rewrite(change)

    async def __aenter__(self) -> "ConfigFile":
        await on_disk(remove_unfinished, self.path)
        await self.reload()
        self._scope.spawn(self._watch(), name="watch")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._scope.aclose()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._poll_interval)
            try:
                await self.reload()
            except StorageError as error:
                self._report((Problem(str(error)),))

    async def _reload(self) -> bool:
        stamp = await on_disk(_read_stamp, self.path)
        if stamp == self._stamp:
            return False
        self._stamp = None  # if it cannot be read now, it is read again even if unchanged
        try:
            self._apply(await on_disk(_read, self.path))
        except UsageError as error:
            problem = (
                error.problem if isinstance(error, _JsonError) else Problem(str(error), line=1, column=1)
            )
            self._report((problem,))
        self._stamp = stamp
        return True

    def _apply(self, text: str) -> None:
        """Put the valid parts of a file in force."""
        document = _parsed(text)
        config, found = read_document(document, self.current)
        places = json_position.offsets(text) if found else {}
        problems = []
        for path, message in found:
            line, column = json_position.line_and_column(text, json_position.offset_of(path, places))
            problems.append(Problem(message, field_name(path), line, column, camera_at(path, document)))
        self.current = config
        self.allowed.learn(config.cameras)
        self.problems = tuple(problems)
        self._text = text
        self._emit()

    def _report(self, problems: tuple[Problem, ...]) -> None:
        if problems != self.problems:
            self.problems = problems
            self._emit()

    def _emit(self) -> None:
        if self.events is not None:
            names = tuple(camera.name for camera in self.current.cameras)
            self.events.emit(ConfigChanged(cameras=names, problems=self.problems))

    async def _change_cameras(self, edit: Callable[[list[Any]], T]) -> T:
        """Edit the list of cameras in the file, and put the file in force."""

        def change(document: Any) -> tuple[Any, T]:
            entries = document if isinstance(document, list) else document.setdefault("cameras", [])
            return document, edit(entries)

        return await self._rewrite(change)

    async def _rewrite(self, edit: Callable[[Any], tuple[Any, T]]) -> T:
        """Edit the document in the file, and put the file in force."""
        async with self._lock:
            document, result = edit(await self._document())
            text = _written(document)
            await on_disk(lambda: atomic_write(self.path, text.encode(), mode=0o644))
            self._stamp = await on_disk(_read_stamp, self.path)
            self._apply(text)
            return result

    async def _document(self) -> Any:
        """Return the document in the file; if it was deleted, the last one in force."""
        if await on_disk(_read_stamp, self.path) is None:
            if self._text is not None:
                return _parsed(self._text)
            return {"cameras": [one.entry() for one in self.current.cameras]}
        try:
            document = _parsed(await on_disk(_read, self.path))
            read_document(document, self.current)
        except UsageError as error:
            raise StateError(f"{self.path.name} must be fixed first: {error}") from error
        return document


class _JsonError(UsageError):
    """A file is not JSON; ``problem`` has the position."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


def _parsed(text: str) -> Any:
    try:
        return json_position.parse(text)
    except json.JSONDecodeError as error:
        raise _JsonError(Problem(f"not JSON: {error.msg}", "", error.lineno, error.colno)) from error
    except (ValueError, RecursionError) as error:
        raise _JsonError(Problem(f"not usable JSON: {error}", "", 1, 1)) from error


def _written(document: Any) -> str:
    """Return a document as text, which can be read again."""
    try:
        text = json.dumps(document, indent=4, ensure_ascii=False, allow_nan=False) + "\n"
    except (ValueError, TypeError, RecursionError) as error:
        raise UsageError(f"this cannot be written as JSON: {error}") from error
    _parsed(text)
    return text


def _checked(entry: Mapping[str, Any], taken: Iterable[str]) -> CameraConfig:
    camera, problems = check_camera(entry, taken=taken)
    if camera is None:
        raise UsageError("; ".join(str(one) for one in problems))
    return camera


def _names(entries: Iterable[Any]) -> list[str]:
    return [str(entry["name"]) for entry in entries if isinstance(entry, dict) and "name" in entry]


def _index(entries: list[Any], name: str) -> int:
    for index, entry in enumerate(entries):
        if isinstance(entry, dict) and entry.get("name") == name:
            return index
    raise NotFoundError(f"there is no camera named {name!r}")


async def read_secret(file: str | None, variable: str | None, *, base: Path) -> str | None:
    """Return a secret from an environment variable or a file relative to ``base``; None without either.

    The variable is read first; if it is empty, the file is read.

    Raises:
        StorageError: The file cannot be read.
        UsageError: The variable or the file has no secret.
    """
    if variable is not None and (secret := os.environ.get(variable, "")):
        return secret
    if file is not None:
        return await on_disk(read_secret_file, base / file)
    if variable is not None:
        raise UsageError(f"environment variable {variable} holds no secret")
    return None


# -- in a thread --------------------------------------------------------------------------------


def _read_stamp(path: Path) -> _Stamp:
    with storage_errors("look at", path):
        try:
            found = path.stat()
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns


def _read(path: Path) -> str:
    with storage_errors("read", path), path.open("rb") as file:
        data = file.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise UsageError(f"a configuration must have at most {_MAX_BYTES >> 20} MB")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"not UTF-8: byte {error.start} is 0x{data[error.start]:02x}") from error
