"""``asynccam watch``: what happens to cameras, as it happens."""

from collections.abc import Sequence
from dataclasses import fields

from rich.text import Text

from asynccam.cli import words
from asynccam.cli.errors import ExitCode
from asynccam.cli.options import (
    AddressesArgument,
    ApiKeyOption,
    JsonOption,
    TokenOption,
    VerboseOption,
    credentials_of,
)
from asynccam.cli.output import Output, plain
from asynccam.cli.running import execute
from asynccam.model.credentials import Credentials
from asynccam.model.events import Event


def watch(
    uris: AddressesArgument,
    token: TokenOption = None,
    api_key: ApiKeyOption = None,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Print what happens to cameras until Ctrl-C; with --json one object a line."""
    output = Output(json=json, verbose=verbose)
    execute("watch", lambda: _watch(uris, credentials_of(token, api_key), output), output)


async def _watch(uris: Sequence[str], credentials: Credentials | None, output: Output) -> ExitCode:
    from asynccam.cli.opening import open_session

    async with open_session() as session:
        with session.events.events() as events:
            with output.waiting("connecting"):
                await session.connect_all(uris, credentials=credentials)
            output.note("Watching; Ctrl-C leaves.")
            async for event in events:
                output.line({"event": type(event).__name__, **plain(event)})
                output.show(_told(event))
    return ExitCode.OK


def _told(event: Event) -> Text:
    """One line: when, what, and every field that says something."""
    said = Text(f"{words.moment(event.at)}  ", style="faint").append(type(event).__name__, style="name")
    for item in fields(event):
        value = plain(getattr(event, item.name))
        if item.name != "at" and value not in (None, "", [], {}):
            said.append(f"  {item.name} ", style="faint").append_text(words.told(_short(value)))
    return said


def _short(value: object) -> str:
    if isinstance(value, dict):
        return str(value.get("id") or value.get("device") or value.get("message") or value)
    return str(value)
