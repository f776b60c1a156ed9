"""Carries a take out before the user's eyes, and tells how it ended."""

from pathlib import Path

from asynccam.cli.errors import ExitCode
from asynccam.cli.live_display import drawn
from asynccam.cli.output import Output
from asynccam.cli.report import take_report, whole
from asynccam.cli.runner import second_signal
from asynccam.cli.take_view import TakeView
from asynccam.errors import StateError
from asynccam.session import Session
from asynccam.take import Take


async def run_take(session: Session, take: Take, view: TakeView, output: Output) -> ExitCode:
    """Run a take to its end while the view follows it, and give its manifest as the result.

    Cancelled, the take stops its cameras and brings home what there is; its result is given all
    the same before the cancellation goes on.
    """
    for camera in take.manifest.cameras:
        view.add(camera.id, camera.name)
    try:
        async with drawn(view, output):
            await follow(session, take, view)
    finally:
        tell(take, output)
    return ExitCode.OK if whole(take.manifest) else ExitCode.INCOMPLETE


async def follow(session: Session, take: Take, view: TakeView) -> None:
    """Run a take to its end while the view follows it."""
    with session.subscribe(view.handle), second_signal(take.abort):
        try:
            await take.run(duration=view.duration, start_in=view.start_in)
        finally:
            view.end(take.manifest)


def tell(take: Take, output: Output) -> None:
    """Give a take's manifest as the command's result, if the take got so far as to have a directory."""
    directory = directory_of(take)
    if directory is None:
        return
    manifest = take.manifest
    output.document({"directory": directory, "complete": whole(manifest), "manifest": manifest})
    output.show(take_report(manifest, directory))


def directory_of(take: Take) -> Path | None:
    """Where a take is, or None if it never came so far."""
    try:
        return take.directory
    except StateError:
        return None
