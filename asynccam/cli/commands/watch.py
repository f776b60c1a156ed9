"""``asynccam watch``: print the events of cameras as they happen."""

from typing import Annotated, Any

import typer
from rich.text import Text

from asynccam.cli import formatting
from asynccam.cli.errors import ExitCode
from asynccam.cli.options import FleetOption, InterfacesOption, UrisArgument
from asynccam.cli.output import Output
from asynccam.cli.runner import command
from asynccam.errors import UsageError
from asynccam.model.credentials import Credentials
from asynccam.model.event_json import event_document

KindsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--event",
        metavar="TYPE",
        help="Only events of this class or its subclasses, for example CameraStateChanged; may be repeated.",
        show_default="all",
    ),
]
CamerasOption = Annotated[
    list[str] | None,
    typer.Option(
        "--camera",
        metavar="ID",
        help="Only events of the camera with this id, and of its service; may be repeated.",
        show_default="all",
    ),
]


@command("watch")
async def watch(
    uris: UrisArgument = None,
    fleet: FleetOption = None,
    kinds: KindsOption = None,
    camera: CamerasOption = None,
    interface: InterfacesOption = None,
    *,
    credentials: Credentials | None,
    output: Output,
) -> ExitCode:
    """Print the events of cameras until Ctrl-C; with --json one object per line.

    A camera that does not answer is unavailable, which is an event, and is retried until it answers.
    """
    from asynccam.session import Session

    if not uris and fleet is None:
        raise UsageError("no cameras given; name addresses, or a --fleet")
    settings: Any = {"interfaces": list(interface)} if interface else {}
    async with Session.open(
        *(uris or ()), fleet=fleet, credentials=credentials, timeout=0, **settings
    ) as session:
        output.print_note("Watching; Ctrl-C leaves.")
        with session.events.stream(camera=tuple(camera or ()) or None, replay=True) as events:
            lost = 0
            async for event in events:
                if events.dropped > lost:
                    _print_event(_dropped(event.at, events.dropped - lost), output)
                    lost = events.dropped
                document = event_document(event)
                if not kinds or not set(kinds).isdisjoint(document["kinds"]):
                    _print_event(document, output)
    return ExitCode.OK


def _dropped(at: float, count: int) -> dict[str, Any]:
    return {
        "event": "EventsDropped",
        "kinds": ["EventsDropped", "Event"],
        "at": at,
        "subject": "",
        "count": count,
    }


def _print_event(document: dict[str, Any], output: Output) -> None:
    output.json_line(document)
    output.print(_format_event(document))


def _format_event(document: dict[str, Any]) -> Text:
    """Return an event on one line: time, class, and every field that is set."""
    said = Text(f"{formatting.format_time(document['at'])}  ", style="faint").append(
        document["event"], style="name"
    )
    for name, value in document.items():
        if name not in ("event", "kinds", "at", "subject") and value not in (None, "", [], {}):
            said.append(f"  {name} ", style="faint").append_text(formatting.device_text(_short(value)))
    return said


def _short(value: object) -> str:
    if isinstance(value, dict):
        return str(value.get("id") or value.get("device") or value.get("message") or value)
    return str(value)
