"""``config.json``: read, watched, and rewritten in one step. See docs/snapshot-server.md."""

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, TypeVar

from asynccam.errors import NotFoundError, StateError, StorageError, UsageError
from asynccam.runtime.disk import atomic_write, on_disk, remove_unfinished, storage_errors
from asynccam.runtime.event_hub import EventHub
from asynccam.runtime.tasks import TaskScope
from asynccam.systems.snapshot.server import json_position
from asynccam.systems.snapshot.server.events import ConfigChanged
from asynccam.systems.snapshot.server.secret import read_secret
from asynccam.systems.snapshot.server.settings import (
    CameraConfig,
    Problem,
    ServerConfig,
    camera_at,
    check_camera,
    field_name,
    read_document,
)
from asynccam.systems.snapshot.server.settings_update import CHANGEABLE, Allowed, changed_settings

__all__ = ["CameraConfig", "ConfigFile", "Problem", "ServerConfig", "check_camera"]

T = TypeVar("T")

_MAX_BYTES: Final = 4 << 20
_Stamp = tuple[int, int, int] | None
"""Inode, size and time of change: another one means another content."""


class ConfigFile:
    """A ``config.json`` and what of it is in force; an async context manager that watches it.

    A file that is not there yet is an empty configuration. A file that is no JSON leaves the last
    good configuration in force, and `problems` says where it is broken; an entry that cannot be used
    hides no other.

    Args:
        path: The file.
        default: Cameras there are while there is no file; they go into it when it is first written.
        events: Where `ConfigChanged` is told, or None.
        poll: Seconds between two looks at whether it was changed by hand.
        allowed: Devices and services that may be named over the web; by default those of `allowed.DEVICES`
            and those that the file names.

    Attributes:
        path: The file.
        events: Where `ConfigChanged` is told, or None.
        allowed: As given; `add_camera` and `replace_camera` do not ask it, but those who call them for a
            request do.
        current: What is in force.
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
            raise UsageError(f"a time between two looks is above 0 s, not {poll:g}")
        self.path = path
        self.events = events
        self.allowed = allowed or Allowed()
        self.current = ServerConfig(cameras=tuple(default))
        self.allowed.learn(self.current.cameras)
        self.problems: tuple[Problem, ...] = ()
        self._poll = poll
        self._seen: _Stamp = None
        self._text: str | None = None
        self._in_turn = asyncio.Lock()
        self._scope = TaskScope("snapshot-config")

    @property
    def cameras(self) -> tuple[CameraConfig, ...]:
        """The cameras in force, in the file's order."""
        return self.current.cameras

    def camera(self, name: str) -> CameraConfig:
        """The camera of that name.

        Raises:
            NotFoundError: There is none.
        """
        for camera in self.current.cameras:
            if camera.name == name:
                return camera
        raise NotFoundError(f"there is no camera named {name!r}")

    async def token(self) -> str | None:
        """The token that requests need, or None if none is asked for.

        Raises:
            StorageError: Its file cannot be read.
            UsageError: The place that is named holds none.
        """
        return await read_secret(self.current.token_file, self.current.token_env, base=self.path.parent)

    async def reload(self) -> bool:
        """Read the file if it is another one than last time; whether it was.

        Raises:
            StorageError: It cannot be read; what was in force stays.
        """
        async with self._in_turn:
            return await self._reload()

    async def add_camera(self, fields: Mapping[str, Any] | CameraConfig) -> CameraConfig:
        """Append a camera to the file.

        Raises:
            UsageError: A field is wrong, or the name is taken; the message names the fields.
            StateError: The file is no JSON at the moment; it is left alone.
            StorageError: The disk refuses.
        """
        entry = fields.entry() if isinstance(fields, CameraConfig) else dict(fields)

        def add(entries: list[Any]) -> CameraConfig:
            camera = _checked(entry, _names(entries))
            entries.append(camera.entry())
            return camera

        return await self._change(add)

    async def replace_camera(self, name: str, fields: Mapping[str, Any] | CameraConfig) -> CameraConfig:
        """Change a camera's fields; those not given and those nobody knows stay.

        Raises:
            NotFoundError: There is no such camera.
            UsageError: A field is wrong, or the new name is taken.
            StateError: The file is no JSON at the moment.
            StorageError: The disk refuses.
        """
        changes = fields.entry() if isinstance(fields, CameraConfig) else dict(fields)

        def change(entries: list[Any]) -> CameraConfig:
            index = _index(entries, name)
            others = _names(entries[:index] + entries[index + 1 :])
            camera = _checked({**entries[index], **changes}, others)
            entries[index] = camera.entry()
            return camera

        return await self._change(change)

    async def delete_camera(self, name: str) -> None:
        """Take a camera out of the file, one whose entry is wrong too.

        Raises:
            NotFoundError: There is no entry of that name.
            StateError: The file is no JSON at the moment.
            StorageError: The disk refuses.
        """

        def delete(entries: list[Any]) -> None:
            del entries[_index(entries, name)]

        await self._change(delete)

    def check_settings(self, changes: Mapping[str, Any]) -> tuple[Problem, ...]:
        """What is wrong with a change of settings; see `change_settings`."""
        in_force = {key: getattr(self.current, key).model_dump(exclude_none=True) for key in CHANGEABLE}
        return changed_settings(in_force, changes)[1]

    async def change_settings(self, changes: Mapping[str, Any]) -> None:
        """Change settings of the server in the file; those not given and those nobody knows stay.

        A file that is a bare list of cameras becomes an object that has them.

        Args:
            changes: Group (``retention``, ``limits`` or ``imu``) -> setting -> value; null is its default.

        Raises:
            UsageError: A setting is wrong, or is none that is changed like this; the message names it.
            StateError: The file is no JSON at the moment; it is left alone.
            StorageError: The disk refuses.
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

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._scope.aclose()

    # -- within ---------------------------------------------------------------------------------

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._poll)
            try:
                await self.reload()
            except StorageError as error:
                self._report((Problem(str(error)),))

    async def _reload(self) -> bool:
        stamp = await on_disk(_stamp, self.path)
        if stamp == self._seen:
            return False
        self._seen = None  # one that cannot be read now is news when it comes back unchanged
        try:
            self._take(await on_disk(_read, self.path))
        except UsageError as error:
            self._report((Problem(str(error), line=1, column=1),))
        self._seen = stamp
        return True

    def _take(self, text: str) -> None:
        """Put in force what a file says, as far as it can be used."""
        try:
            document = _parsed(text)
            config, found = read_document(document, self.current)
        except _BrokenError as error:
            self._report((error.problem,))
            return
        except UsageError as error:
            self._report((Problem(str(error), line=1, column=1),))
            return
        places = json_position.offsets(text) if found else {}
        problems = []
        for path, message in found:
            line, column = json_position.line_and_column(text, json_position.offset_of(path, places))
            problems.append(Problem(message, field_name(path), line, column, camera_at(path, document)))
        self.current = config
        self.allowed.learn(config.cameras)
        self.problems = tuple(problems)
        self._text = text
        self._tell()

    def _report(self, problems: tuple[Problem, ...]) -> None:
        if problems != self.problems:
            self.problems = problems
            self._tell()

    def _tell(self) -> None:
        if self.events is not None:
            names = tuple(camera.name for camera in self.current.cameras)
            self.events.emit(ConfigChanged(cameras=names, problems=self.problems))

    async def _change(self, edit: Callable[[list[Any]], T]) -> T:
        """Edit the list of cameras that is in the file now, and put the file in force."""

        def change(document: Any) -> tuple[Any, T]:
            entries = document if isinstance(document, list) else document.setdefault("cameras", [])
            return document, edit(entries)

        return await self._rewrite(change)

    async def _rewrite(self, edit: Callable[[Any], tuple[Any, T]]) -> T:
        """Edit what is in the file now, and put the file in force."""
        async with self._in_turn:
            document, result = edit(await self._document())
            text = _written(document)
            await on_disk(lambda: atomic_write(self.path, text.encode(), mode=0o644))
            self._seen = await on_disk(_stamp, self.path)
            self._take(text)
            return result

    async def _document(self) -> Any:
        """What is in the file now; where it was deleted, the last of it that was in force."""
        if await on_disk(_stamp, self.path) is None:
            if self._text is not None:
                return _parsed(self._text)
            return {"cameras": [one.entry() for one in self.current.cameras]}
        try:
            document = _parsed(await on_disk(_read, self.path))
            read_document(document, self.current)
        except _BrokenError as error:
            raise StateError(f"{self.path.name} has to be mended first: {error.problem}") from error
        except UsageError as error:
            raise StateError(f"{self.path.name} has to be mended first: {error}") from error
        return document


class _BrokenError(UsageError):
    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


def _parsed(text: str) -> Any:
    try:
        return json_position.parse(text)
    except json.JSONDecodeError as error:
        raise _BrokenError(Problem(f"no JSON: {error.msg}", "", error.lineno, error.colno)) from error
    except (ValueError, RecursionError) as error:
        raise _BrokenError(Problem(f"no usable JSON: {error}", "", 1, 1)) from error


def _written(document: Any) -> str:
    """A document as it goes into the file, which is one that can be read again."""
    try:
        text = json.dumps(document, indent=4, ensure_ascii=False, allow_nan=False) + "\n"
    except (ValueError, TypeError, RecursionError) as error:
        raise UsageError(f"this cannot stand in a JSON file: {error}") from error
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


# -- in a thread --------------------------------------------------------------------------------


def _stamp(path: Path) -> _Stamp:
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
        raise UsageError(f"a configuration has {_MAX_BYTES >> 20} MB at most")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"it is not UTF-8: byte {error.start} is 0x{data[error.start]:02x}") from error
