"""A fleet: the cameras and settings of a Session, written down in a TOML file. See docs/fleet.md."""

import math
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError, field_validator

from asynccam.errors import AddressError, AsynccamError, AuthenticationError, StorageError, UsageError
from asynccam.model.address import Address
from asynccam.model.credentials import Credentials
from asynccam.runtime.disk import on_disk, storage_errors
from asynccam.runtime.secrets import read_secret_file
from asynccam.session.secrets import KINDS, SecretFile, from_environment
from asynccam.session.shared import time_server
from asynccam.session.targets import CameraTarget, check, check_http_port
from asynccam.session.toml_position import line_of, syntax_error

if TYPE_CHECKING:
    from asynccam.session.session import Settings

Seconds = Annotated[float, Field(gt=0, lt=math.inf)]
Name = Annotated[str, Field(min_length=1)]

_LARGEST: Final = 4 * 1024 * 1024
"""Bytes of a fleet's file."""


class FleetError(UsageError):
    """A fleet's file is wrong.

    Attributes:
        problems: For each a line, the key's path and what is wrong there.
    """

    def __init__(self, name: str, problems: list[tuple[int, str, str]]) -> None:
        self.problems = tuple(sorted(problems))
        told = [
            f"{name}:{line}: {path}: {what}" if path else f"{name}:{line}: {what}"
            for line, path, what in self.problems
        ]
        super().__init__("\n".join(told))


class _Table(BaseModel):
    """A table of the file: no other keys, no other types."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


class _SessionTable(_Table):
    ntp_server: str | None = None
    interfaces: list[str] | None = None
    fail_fast: bool = False
    shutdown_timeout: Seconds = 60.0
    # Files written before the key was renamed have check_every.
    poll_interval: Seconds | Literal[False] = Field(
        10.0, validation_alias=AliasChoices("poll_interval", "check_every")
    )
    mdns: bool = True

    @field_validator("ntp_server")
    @classmethod
    def _is_server(cls, value: str) -> str:
        time_server(value)
        return value


class _CameraTable(_Table):
    address: str
    label: Name | None = None
    groups: list[Name] = []
    token_env: Name | None = None
    token_file: Name | None = None
    api_key_env: Name | None = None
    api_key_file: Name | None = None
    http_port: int | None = None

    @field_validator("address")
    @classmethod
    def _is_address(cls, value: str) -> str:
        if "@" in value:  # not to be repeated in an error: what stands before it may be a password
            raise AddressError("an address carries no credentials; name a variable or a file instead")
        CameraTarget(Address.parse(value)).is_service  # noqa: B018 - raises for a system unknown here
        return value


class _FleetTable(_Table):
    session: _SessionTable = _SessionTable()
    camera: list[_CameraTable] = []


@dataclass(frozen=True, slots=True)
class Fleet:
    """What a fleet's file says, checked; secrets do not show in ``repr``.

    Attributes:
        places: Where cameras are looked for.
        ntp_server: As for `Session`; so are the next four.
        interfaces: None for all.
        fail_fast: Whether the first failure of a camera ends the session.
        shutdown_timeout: Seconds.
        poll_interval: Seconds, or None for no checks.
        mdns: Whether the session listens to cameras that announce themselves.
    """

    places: tuple[CameraTarget, ...] = ()
    ntp_server: str | None = None
    interfaces: tuple[str, ...] | None = None
    fail_fast: bool = False
    shutdown_timeout: float = 60.0
    poll_interval: float | None = 10.0
    mdns: bool = True

    @classmethod
    async def load(cls, path: Path | str) -> "Fleet":
        """Read a file; names of files in it are relative to its directory.

        Raises:
            FleetError: It is wrong; the error says where.
            StorageError: It, or a file with a secret, cannot be read.
        """
        file = Path(path)
        return await on_disk(_load, file)

    @classmethod
    def parse(cls, text: str, *, name: str = "fleet.toml", directory: Path = Path()) -> "Fleet":
        """Read the text of a file; blocks while it looks into files with secrets.

        Args:
            text: TOML.
            name: What to call it in errors.
            directory: What names of files in it are relative to.

        Raises:
            FleetError: As for `load`.
        """
        return _Reader(text, name, directory).fleet()

    def settings(self) -> "Settings":
        """The settings, for `Session`."""
        return {
            "ntp_server": self.ntp_server,
            "interfaces": None if self.interfaces is None else list(self.interfaces),
            "fail_fast": self.fail_fast,
            "shutdown_timeout": self.shutdown_timeout,
            "poll_interval": self.poll_interval,
        }


@dataclass(slots=True)
class _Reader:
    """Reads one text, and gathers all that is wrong with it."""

    text: str
    name: str
    directory: Path
    problems: list[tuple[int, str, str]] = field(default_factory=list)

    def fleet(self) -> Fleet:
        try:
            document = tomllib.loads(self.text)
        except (ValueError, RecursionError) as error:  # tomllib raises these two for what it cannot hold
            line, what = syntax_error(error, self.text)
            raise FleetError(self.name, [(line, "", what)]) from None
        try:
            table = _FleetTable.model_validate(document)
        except ValidationError as error:
            for one in error.errors(include_input=False, include_url=False):
                self._problem(_in_text(document, one["loc"]), _words(one))
            raise FleetError(self.name, self.problems) from None
        found: list[CameraTarget] = []
        for number, camera in enumerate(table.camera):
            place = self._place(number, camera)
            if place is not None:
                try:
                    check([*found, place])
                except UsageError as error:
                    self._problem(("camera", number), str(error))
                else:
                    found.append(place)
        if self.problems:
            raise FleetError(self.name, self.problems)
        session = table.session
        return Fleet(
            places=tuple(found),
            ntp_server=session.ntp_server,
            interfaces=None if session.interfaces is None else tuple(session.interfaces),
            fail_fast=session.fail_fast,
            shutdown_timeout=session.shutdown_timeout,
            poll_interval=session.poll_interval or None,
            mdns=session.mdns,
        )

    def _place(self, number: int, camera: _CameraTable) -> CameraTarget | None:
        before = len(self.problems)
        address = Address.parse(camera.address)
        if camera.http_port is not None:
            try:
                check_http_port(address, camera.http_port)
            except UsageError as error:
                self._problem(("camera", number, "http_port"), str(error))
        secrets: dict[str, Any] = {}
        for kind in KINDS:
            variable, file = getattr(camera, f"{kind}_env"), getattr(camera, f"{kind}_file")
            if variable is not None and file is not None:
                self._problem(
                    ("camera", number, f"{kind}_file"), f"there is {kind}_env as well; one is enough"
                )
                continue
            try:
                if variable is not None:
                    secrets[kind] = from_environment(variable)
                elif file is not None:
                    path = self.directory / Path(file).expanduser()
                    secret = read_secret_file(path)
                    secrets[kind] = SecretFile(path) if kind == "token" else secret
            except (AuthenticationError, StorageError, UsageError) as error:
                self._problem(("camera", number, f"{kind}_env" if variable else f"{kind}_file"), str(error))
        if len(self.problems) > before:
            return None
        return CameraTarget(
            address,
            camera.label or "",
            frozenset(camera.groups),
            Credentials(**secrets),
            camera.http_port,
        )

    def _problem(self, path: tuple[str | int, ...], what: str) -> None:
        self.problems.append((line_of(self.text, path), _dotted(path), what))


def _load(path: Path) -> Fleet:
    with storage_errors("read the fleet in", path), path.open("rb") as file:
        data = file.read(_LARGEST + 1)
    if len(data) > _LARGEST:
        raise StorageError(f"{path} is too large for a fleet")
    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise FleetError(str(path), [(line, "", "this is not UTF-8")]) from None
    return Fleet.parse(text, name=str(path), directory=path.parent)


def _in_text(document: Any, where: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """The part of pydantic's path that is keys of the file: it adds names of alternatives at the end."""
    path: list[str | int] = []
    for number, key in enumerate(where):
        inside = isinstance(document, dict) if isinstance(key, str) else isinstance(document, list)
        if not inside:
            break
        path.append(key)
        try:
            document = document[key]
        except (KeyError, IndexError):
            return (*path, *where[number + 1 :])
    return tuple(path)


def _dotted(path: tuple[str | int, ...]) -> str:
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path).removeprefix(".")


def _words(problem: Any) -> str:
    """What is wrong, without the value: it may be a secret that was put into the wrong place."""
    cause = problem.get("ctx", {}).get("error")
    if isinstance(cause, AsynccamError):
        return str(cause)
    key = problem["loc"][-1]
    if problem["type"] == "extra_forbidden":
        if key in KINDS:
            return f"a secret does not stand in this file; write {key}_env or {key}_file"
        return "there is no such key"
    if problem["type"] == "missing":
        return "this key is missing"
    return str(problem["msg"])[:1].lower() + str(problem["msg"])[1:]
