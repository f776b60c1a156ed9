"""Options and helpers shared by ``asynccam serve`` and ``asynccam simulate``."""

import asyncio
import dataclasses
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar, get_type_hints

import typer

from asynccam.errors import RecordingError, UsageError
from asynccam.runtime.tasks import TaskScope

if TYPE_CHECKING:
    from asynccam.recording.sources import Source

WhileStdinOption = Annotated[
    bool, typer.Option("--while-stdin-open", help="Also end when standard input is closed.")
]


@asynccontextmanager
async def while_open(*, stdin: bool) -> AsyncIterator[None]:
    """Run the block until standard input is closed, if ``stdin`` is true."""
    if not stdin:
        yield
        return
    owner = asyncio.current_task()
    assert owner is not None
    closed = False
    cancelling = owner.cancelling()

    async def watch(reader: asyncio.StreamReader) -> None:
        nonlocal closed
        while await reader.read(1024):
            pass
        closed = True
        owner.cancel()

    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    try:
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    except (ValueError, PermissionError):
        raise UsageError("--while-stdin-open needs a pipe or a terminal as standard input") from None
    async with TaskScope("stdin") as scope:
        scope.spawn(watch(reader), name="watch")
        try:
            yield
        except asyncio.CancelledError:
            if not closed or owner.uncancel() > cancelling:
                raise
        finally:
            transport.close()


FaultsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--fault",
        metavar="NAME[=VALUE]",
        help="Deliberate fault; may be repeated. An unknown name lists all faults.",
        show_default=False,
    ),
]

F = TypeVar("F")


def faults_of(kind: type[F], texts: Sequence[str] | None) -> F:
    """Return the fault switches of a server, parsed from ``NAME`` or ``NAME=VALUE[,VALUE]`` options."""
    hints = get_type_hints(kind)
    chosen: dict[str, Any] = {}
    for text in texts or ():
        name, has_value, value = text.partition("=")
        if name not in hints:
            raise UsageError(f"unknown fault {name!r}; expected one of {', '.join(hints)}")
        chosen[name] = _converted(name, hints[name], value if has_value else None)
    return dataclasses.replace(kind(), **chosen)  # type: ignore[type-var]  # each kind is a dataclass


def _converted(name: str, hint: Any, value: str | None) -> Any:
    from pydantic import TypeAdapter, ValidationError

    given: Any = True if value is None else value.split(",") if "frozenset" in str(hint) else value
    try:
        return TypeAdapter(hint).validate_python(given)
    except ValidationError as error:
        raise UsageError(f"--fault {name}: {error.errors()[0]['msg']}") from None


_CURE: Final = (
    "apt install gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good"
    " gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly"
)


async def require_gstreamer(source: "Source") -> None:
    """Check that a source can be recorded to MP4 here; the error says what to install."""
    from asynccam.recording import Pipeline, SingleFile
    from asynccam.recording.gstreamer import find_installation

    # Planning only checks whether the file exists; it writes nothing.
    pipeline = Pipeline(source, SingleFile(Path("asynccam-has-no-such-directory", "a.mp4")))
    try:
        tools = await find_installation()
        plan = await asyncio.to_thread(pipeline.plan, tools.elements)
        await find_installation(plan.graph.factories)
    except RecordingError as error:
        raise RecordingError(f"{error}; {_CURE}", output=error.output) from None
