"""Fleet: the cameras and settings of a Session, from a TOML file. See docs/fleet.md."""

import math
import os
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError, field_validator

from asynccam.errors import AddressError, AsynccamError, AuthenticationError, StorageError, UsageError
from asynccam.model.address import Address
from asynccam.model.credentials import Credentials
from asynccam.runtime.disk import on_disk, read_secret_file, storage_errors
from asynccam.session.shared import SessionSettings, time_server
from asynccam.session.targets import CameraTarget, check_http_port, check_targets
from asynccam.session.toml_position import line_of, syntax_error

Seconds = Annotated[float, Field(gt=0, lt=math.inf)]
Name = Annotated[str, Field(min_length=1)]

_MAX_BYTES: Final = 4 * 1024 * 1024
"""Size of a fleet's file."""
_SECRETS: Final = ("token", "api_key")
"""Secret fields of `Credentials`."""


class FleetError(UsageError):
    """Invalid fleet file.

    Attributes:
        problems: Of each the line, the key's path and the message.
    """

    def __init__(self, name: str, problems: list[tuple[int, str, str]]) -> None:
        self.problems = tuple(sorted(problems))
        lines = [
            f"{name}:{line}: {path}: {message}" if path else f"{name}:{line}: {message}"
            for line, path, message in self.problems
        ]
        super().__init__("\n".join(lines))


class _Table(BaseModel):
    """Table of the file: no other keys, no other types."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


class _SessionTable(_Table):
    ntp_server: str | None = None
    interfaces: list[str] | None = None
    fail_fast: bool = False
    shutdown_timeout: Seconds = 60.0
    # Files written before the key was renamed have check_every.
    poll_interval: Seconds | Literal[False] = Field(
        default=10.0, validation_alias=AliasChoices("poll_interval", "check_every")
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
        if "@" in value:  # not repeated in the error: what is before it may be a password
            raise AddressError("an address carries no credentials; name a variable or a file instead")
        Address.parse(value)
        return value


class _FleetTable(_Table):
    session: _SessionTable = _SessionTable()
    camera: list[_CameraTable] = []


@dataclass(frozen=True, slots=True)
class Fleet:
    """Content of a fleet's file, checked. Secrets do not show in ``repr``.

    Attributes:
        places: Addresses of the cameras.
        ntp_server: As for `Session`; so are the next four.
        interfaces: None for all.
        fail_fast: Whether the first failure of a camera ends the session.
        shutdown_timeout: Seconds.
        poll_interval: Seconds, or None not to poll.
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
            FleetError: The file is invalid; the error has the lines.
            StorageError: The file, or a file with a secret, cannot be read.
        """
        return await on_disk(_load, Path(path))

    @classmethod
    def parse(cls, text: str, *, name: str = "fleet.toml", directory: Path = Path()) -> "Fleet":
        """Read the text of a file; blocks while it reads files with secrets.

        Args:
            text: TOML.
            name: Name of the file in errors.
            directory: Names of files in the text are relative to it.

        Raises:
            FleetError: As for `load`.
        """
        return _Reader(text, name, directory).fleet()

    def settings(self) -> SessionSettings:
        """Return the settings as arguments of `Session`."""
        return {
            "ntp_server": self.ntp_server,
            "interfaces": None if self.interfaces is None else list(self.interfaces),
            "fail_fast": self.fail_fast,
            "shutdown_timeout": self.shutdown_timeout,
            "poll_interval": self.poll_interval,
        }


@dataclass(frozen=True, slots=True)
class SecretFile:
    """Token provider that reads a file at every sign-in, so that the token in it may be renewed."""

    path: Path

    async def __call__(self) -> str:
        """Return the token, or raise `AuthenticationError` if the file has none."""
        try:
            return await on_disk(_read_secret, self.path)
        except (StorageError, UsageError) as error:
            raise AuthenticationError(str(error)) from error


@dataclass(slots=True)
class _Reader:
    """Reader of one text, which collects every problem of it."""

    text: str
    name: str
    directory: Path
    problems: list[tuple[int, str, str]] = field(default_factory=list)

    def fleet(self) -> Fleet:
        try:
            document = tomllib.loads(self.text)
        except (ValueError, RecursionError) as error:  # RecursionError: nested too deep for tomllib
            line, message = syntax_error(error, self.text)
            raise FleetError(self.name, [(line, "", message)]) from None
        try:
            table = _FleetTable.model_validate(document)
        except ValidationError as error:
            for problem in error.errors(include_input=False, include_url=False):
                self._add_problem(_path_in_document(document, problem["loc"]), _message(problem))
            raise FleetError(self.name, self.problems) from None
        targets: list[CameraTarget] = []
        for index, camera in enumerate(table.camera):
            target = self._target(index, camera)
            if target is not None:
                try:
                    check_targets([*targets, target])
                except UsageError as error:
                    self._add_problem(("camera", index), str(error))
                else:
                    targets.append(target)
        if self.problems:
            raise FleetError(self.name, self.problems)
        session = table.session
        return Fleet(
            places=tuple(targets),
            ntp_server=session.ntp_server,
            interfaces=None if session.interfaces is None else tuple(session.interfaces),
            fail_fast=session.fail_fast,
            shutdown_timeout=session.shutdown_timeout,
            poll_interval=session.poll_interval or None,
            mdns=session.mdns,
        )

    def _target(self, index: int, camera: _CameraTable) -> CameraTarget | None:
        before = len(self.problems)
        address = Address.parse(camera.address)
        if camera.http_port is not None:
            try:
                check_http_port(address, camera.http_port)
            except UsageError as error:
                self._add_problem(("camera", index, "http_port"), str(error))
        secrets: dict[str, Any] = {}
        for name in _SECRETS:
            variable, file = getattr(camera, f"{name}_env"), getattr(camera, f"{name}_file")
            if variable is not None and file is not None:
                problem = f"there is {name}_env as well; one is enough"
                self._add_problem(("camera", index, f"{name}_file"), problem)
                continue
            try:
                if variable is not None:
                    secrets[name] = _secret_in_environment(variable)
                elif file is not None:
                    path = self.directory / Path(file).expanduser()
                    secret = _read_secret(path)
                    secrets[name] = SecretFile(path) if name == "token" else secret
            except (AuthenticationError, StorageError, UsageError) as error:
                key = f"{name}_env" if variable else f"{name}_file"
                self._add_problem(("camera", index, key), str(error))
        if len(self.problems) > before:
            return None
        return CameraTarget(
            address, camera.label or "", frozenset(camera.groups), Credentials(**secrets), camera.http_port
        )

    def _add_problem(self, path: tuple[str | int, ...], message: str) -> None:
        self.problems.append((line_of(self.text, path), _dotted(path), message))


def _load(path: Path) -> Fleet:
    with storage_errors("read the fleet in", path), path.open("rb") as file:
        data = file.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise StorageError(f"{path} is too large for a fleet")
    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise FleetError(str(path), [(line, "", "this is not UTF-8")]) from None
    return Fleet.parse(text, name=str(path), directory=path.parent)


def _read_secret(path: Path) -> str:
    return read_secret_file(path, only_line=True)


def _secret_in_environment(name: str) -> str:
    secret = os.environ.get(name, "").strip()
    if not secret:
        raise AuthenticationError(f"the environment variable {name} is not set")
    return secret


def _path_in_document(document: Any, location: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """Return the part of pydantic's path that is keys of the file: names of alternatives may follow."""
    path: list[str | int] = []
    for index, key in enumerate(location):
        inside = isinstance(document, dict) if isinstance(key, str) else isinstance(document, list)
        if not inside:
            break
        path.append(key)
        try:
            document = document[key]
        except (KeyError, IndexError):
            return (*path, *location[index + 1 :])
    return tuple(path)


def _dotted(path: tuple[str | int, ...]) -> str:
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path).removeprefix(".")


def _message(problem: Any) -> str:
    """Return what is wrong, without the value, which may be a secret in the wrong place."""
    cause = problem.get("ctx", {}).get("error")
    if isinstance(cause, AsynccamError):
        return str(cause)
    key = problem["loc"][-1]
    if problem["type"] == "extra_forbidden":
        if key in _SECRETS:
            return f"a secret must not be in this file; write {key}_env or {key}_file"
        return "there is no such key"
    if problem["type"] == "missing":
        return "this key is missing"
    return str(problem["msg"])[:1].lower() + str(problem["msg"])[1:]
