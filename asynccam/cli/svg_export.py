"""A picture of what the terminal shows, for the README."""

import asyncio
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from rich.console import RenderableType
from rich.text import Text

from asynccam.cli.output import console
from asynccam.cli.take_view import TakeView
from asynccam.model.events import TakePhaseChanged

_WIDTH: Final = 108


class Picture:
    """Collects what was shown and saves it as SVG.

    Args:
        command: The command line it was the output of.
    """

    def __init__(self, command: str) -> None:
        self._command = command
        self._paper = console(record=True, width=_WIDTH, file=io.StringIO(), force_terminal=True)
        self.add(Text.assemble(("$ ", "good"), (command, "name")), Text())

    def add(self, *parts: RenderableType) -> None:
        """Put something below what is there."""
        for part in parts:
            self._paper.print(part)

    async def watch(self, view: TakeView, phases: AsyncIterator[TakePhaseChanged]) -> None:
        """Add a view as it looks when half of the recording is done."""
        async for event in phases:
            if event.phase == "recording":
                await asyncio.sleep(0.6 * view.duration)
                self.add(view, Text())

    def save(self, path: Path) -> None:
        """Write the picture."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._paper.save_svg(str(path), title=self._command, unique_id="asynccam")
