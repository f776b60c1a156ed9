"""Finds out before anything is started whether GStreamer can do what a command needs."""

import asyncio
from pathlib import Path
from typing import Final

from asynccam.errors import RecordingError
from asynccam.recording import Pipeline, SingleFile
from asynccam.recording.gstreamer import find_installation
from asynccam.recording.sources import Source

_CURE: Final = (
    "apt install gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good"
    " gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly"
)


async def require_gstreamer(source: Source) -> None:
    """Make sure that a source can be recorded to MP4 here.

    Raises:
        RecordingError: What is missing, and how Debian and Ubuntu install it.
    """
    # Planning looks whether the file exists, and writes nothing.
    pipeline = Pipeline(source, SingleFile(Path("asynccam-has-no-such-directory", "a.mp4")))
    try:
        tools = await find_installation()
        plan = await asyncio.to_thread(pipeline.plan, tools.elements)
        await find_installation(plan.graph.factories)
    except RecordingError as error:
        raise RecordingError(f"{error}; {_CURE}", output=error.output) from None
