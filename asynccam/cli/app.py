"""The Typer application: the table of commands, and how a command line is carried out."""

import io
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from asynccam.cli.commands.align import align
from asynccam.cli.commands.bridge import bridge
from asynccam.cli.commands.cameras import cameras, snapshot
from asynccam.cli.commands.discover import discover
from asynccam.cli.commands.doctor import doctor
from asynccam.cli.commands.files import download, files
from asynccam.cli.commands.record import record
from asynccam.cli.commands.resume import resume
from asynccam.cli.commands.serve import SERVERS
from asynccam.cli.commands.simulate import SIMULATORS
from asynccam.cli.commands.status import status
from asynccam.cli.commands.top import top
from asynccam.cli.commands.watch import watch
from asynccam.cli.demo.command import demo
from asynccam.cli.errors import ExitCode
from asynccam.cli.logs import LogLevel, start_logging
from asynccam.cli.options import ADDRESS_FORM
from asynccam.cli.output import print_error
from asynccam.errors import StorageError

COMMANDS: Final[tuple[Callable[..., None], ...]] = (
    discover,
    cameras,
    status,
    snapshot,
    files,
    download,
    record,
    resume,
    align,
    watch,
    top,
    bridge,
    doctor,
    demo,
)
"""Every command, by the name of its function, in the order of ``--help``."""

# Typer's public BadParameter is one of the errors that a wrong command line raises. Their common base has
# no public name in some versions of Typer.
_LineError: Final[type[Exception]] = typer.BadParameter.__mro__[2]

_APP: Final[dict[str, Any]] = {
    "pretty_exceptions_enable": False,
    "context_settings": {"help_option_names": ["-h", "--help"]},
    "rich_markup_mode": "rich",
}
app = typer.Typer(
    name="asynccam",
    help="Find network cameras, start them together, download and check every file.",
    epilog=f"A camera is named by its address: {ADDRESS_FORM}.",
    **_APP,
)
_serve = typer.Typer(help="Make this computer a device that other controllers can use.", **_APP)
_simulate = typer.Typer(help="Simulate a vendor's service, to try things out.", **_APP)


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
        try:
            start_logging(log_level or LogLevel.DEBUG, log_file)
        except StorageError as error:
            print_error(str(error))
            raise typer.Exit(ExitCode.STORAGE) from error
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


for _command in COMMANDS:
    app.command()(_command)
for _name, _server in SERVERS.items():
    _serve.command(_name)(_server)
app.add_typer(_serve, name="serve")
for _name, _simulator in SIMULATORS.items():
    _simulate.command(_name)(_simulator)
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
