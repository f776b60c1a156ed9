"""Run a take with a live view and print its result."""

from pathlib import Path

from asynccam.cli.errors import ExitCode
from asynccam.cli.output import Output
from asynccam.cli.report import is_complete, take_report
from asynccam.cli.runner import abort_on_second_signal
from asynccam.cli.take_view import TakeView, live_view
from asynccam.errors import StateError
from asynccam.session import Session
from asynccam.take import Take


async def run_take(session: Session, take: Take, view: TakeView, output: Output) -> ExitCode:
    """Run a take to its end with a live view, and print its manifest as the result.

    When cancelled, the take stops its cameras and downloads what exists; its result is printed before the
    cancellation continues.
    """
    for camera in take.manifest.cameras:
        view.add(camera.id, camera.name)
    try:
        async with live_view(view, output):
            await run_with_view(session, take, view)
    finally:
        print_take(take, output)
    return ExitCode.OK if is_complete(take.manifest) else ExitCode.INCOMPLETE


async def run_with_view(session: Session, take: Take, view: TakeView) -> None:
    """Run a take to its end while the view follows it."""
    with session.subscribe(view.handle), abort_on_second_signal(take.abort):
        try:
            await take.run(duration=view.duration, start_in=view.start_in)
        finally:
            view.end(take.manifest)


def print_take(take: Take, output: Output) -> None:
    """Print a take's manifest as the command's result, if the take has a directory."""
    directory = take_directory(take)
    if directory is None:
        return
    manifest = take.manifest
    output.json_document({"directory": directory, "complete": is_complete(manifest), "manifest": manifest})
    output.print(take_report(manifest, directory))


def take_directory(take: Take) -> Path | None:
    """Return the directory of a take, or None before it was created."""
    try:
        return take.directory
    except StateError:
        return None
