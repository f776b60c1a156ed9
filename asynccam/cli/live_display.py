"""Draws a `TakeView` on the terminal while a take runs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from rich.live import Live

from asynccam.cli.output import Output
from asynccam.cli.take_view import TakeView
from asynccam.runtime.tasks import TaskScope
from asynccam.wall_clock import unix_now

_INTERVAL: Final = 0.1
"""Seconds between two pictures."""
_HUSH: Final = 0.15
"""Seconds around T0 without a picture: drawing one takes milliseconds of the loop."""


@asynccontextmanager
async def drawn(view: TakeView, output: Output) -> AsyncIterator[None]:
    """Draw a view on stderr while the block runs, if that is a terminal; the last picture stays."""
    if not output.animate:
        yield
        return
    # Drawn from the loop itself: a thread would look at the view while it changes.
    with Live(view, console=output.stderr, auto_refresh=False) as live:
        async with TaskScope("live") as scope:
            scope.spawn(_refresh(view, live), name="refresh")
            yield
        live.refresh()


async def _refresh(view: TakeView, live: Live) -> None:
    while True:
        if view.t0 is None or abs(view.t0 - unix_now()) > _HUSH:
            live.refresh()
        await asyncio.sleep(_INTERVAL)
