"""The Typer application: the table of commands, and how a command line is carried out."""

import io
import sys
from collections.abc import Iterator, MutableMapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Final

import typer
import typer.core
import typer.main

from asynccam.cli.errors import ExitCode, print_error
from asynccam.cli.options import ADDRESS_FORM, LogLevel

COMMANDS: Final = {
    "discover": "commands.discover",
    "cameras": "commands.cameras",
    "status": "commands.status",
    "snapshot": "commands.cameras",
    "files": "commands.files",
    "download": "commands.files",
    "record": "commands.record",
    "resume": "commands.resume",
    "align": "commands.align",
    "watch": "commands.watch",
    "top": "commands.top",
    "bridge": "commands.bridge",
    "doctor": "commands.doctor",
    "demo": "demo.command",
}
"""Every command and the module that has a function of its name, in the order of ``--help``."""
SERVERS: Final[dict[str, str]] = dict.fromkeys(("multicam", "nanocam", "snapshot"), "commands.serve")
"""Servers by the word after ``asynccam serve``, each with its module."""
SIMULATORS: Final[dict[str, str]] = dict.fromkeys(("mediamtx", "thorvision"), "commands.simulate")
"""Simulators by the word after ``asynccam simulate``, each with its module."""

# Typer's public BadParameter is one of the errors that a wrong command line raises. Their common base has
# no public name in some versions of Typer.
_LineError: Final[type[Exception]] = typer.BadParameter.__mro__[2]

_APP: Final[dict[str, Any]] = {
    "pretty_exceptions_enable": False,
    "context_settings": {"help_option_names": ["-h", "--help"]},
    "rich_markup_mode": "rich",
}


class _Commands(MutableMapping[str, Any]):
    """Commands by name; each is imported when it is first asked for."""

    def __init__(self, modules: dict[str, str]) -> None:
        self._modules = modules
        self._loaded: dict[str, Any] = {}
        self._names = dict.fromkeys(modules)

    def __getitem__(self, name: str) -> Any:
        if name not in self._loaded and name in self._modules:
            function = getattr(import_module(f"asynccam.cli.{self._modules[name]}"), name)
            single = typer.Typer(add_completion=False, **_APP)
            single.command(name)(function)
            self._loaded[name] = typer.main.get_command(single)
        return self._loaded[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._names[name] = None
        self._loaded[name] = command

    def __delitem__(self, name: str) -> None:
        del self._names[name]
        self._loaded.pop(name, None)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class _Group(typer.core.TyperGroup):
    """Group of commands that are imported when they are asked for."""

    modules: dict[str, str] = COMMANDS

    def __init__(self, *, commands: Any = None, **attributes: Any) -> None:
        super().__init__(commands=commands, **attributes)
        groups = self.commands
        self.commands = _Commands(self.modules)
        self.commands.update(groups)


class _ServeGroup(_Group):
    modules = SERVERS


class _SimulateGroup(_Group):
    modules = SIMULATORS


app = typer.Typer(
    name="asynccam",
    cls=_Group,
    help="Find network cameras, start them together, download and check every file.",
    epilog=f"A camera is named by its address: {ADDRESS_FORM}.",
    **_APP,
)
_serve = typer.Typer(
    cls=_ServeGroup, help="Make this computer a device that other controllers can use.", **_APP
)
_simulate = typer.Typer(cls=_SimulateGroup, help="Simulate a vendor's service, to try things out.", **_APP)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"asynccam {version('asynccam')}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    _: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and leave."),
    ] = False,
    log_level: Annotated[
        LogLevel | None,
        typer.Option(help="Write the library's log, from this level on: debug, info, warning or error."),
    ] = None,
    log_file: Annotated[
        Path | None,
        typer.Option(help="Append the log to this file instead of stderr; the level is debug by default."),
    ] = None,
) -> None:
    if log_level is not None or log_file is not None:
        from asynccam.cli.logs import start_logging
        from asynccam.errors import StorageError

        try:
            start_logging(log_level or LogLevel.DEBUG, log_file)
        except StorageError as error:
            print_error(str(error))
            raise typer.Exit(ExitCode.STORAGE) from error
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


app.add_typer(_serve, name="serve")
app.add_typer(_simulate, name="simulate")


def invoke(arguments: Sequence[str]) -> int:
    """Carry out a command line; returns the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # so that no terminal's encoding can make a line fail
            stream.reconfigure(errors="backslashreplace")
    try:
        return int(app(arguments, prog_name="asynccam", standalone_mode=False) or ExitCode.OK)
    except _LineError as error:
        context = getattr(error, "ctx", None)
        path = context.command_path if context is not None else "asynccam"
        words = " ".join(str(getattr(error, "format_message", error.__str__)()).split())
        print_error(f"{words} (see {path} --help)")
        return ExitCode.USAGE
