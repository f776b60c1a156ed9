"""The event loops that network benchmarks run on: asyncio's own, and uvloop's where it is installed."""

import asyncio
import os
from collections.abc import Callable, Coroutine, Mapping
from importlib.util import find_spec
from typing import Any, Final, TypeVar

T = TypeVar("T")

ASYNCIO: Final = "asyncio"
UVLOOP: Final = "uvloop"
CHOICE: Final = "ASYNCCAM_BENCHMARK_LOOPS"
"""Environment variable: the loops to measure, with commas between; by default both."""


def loops() -> tuple[str, ...]:
    """Return the names of the loops to measure."""
    installed = (ASYNCIO, UVLOOP) if find_spec("uvloop") else (ASYNCIO,)
    chosen = os.environ.get(CHOICE)
    return tuple(name for name in installed if chosen is None or name in chosen.split(","))


def suffix(loop: str) -> str:
    """Return what a case's name has behind it on this loop."""
    return "" if loop == ASYNCIO else f", {loop}"


def on_each(cases: Mapping[str, str]) -> dict[str, str]:
    """Return names of cases and kinds of receivers, with those that run on uvloop behind them."""
    return {
        f"{name}{suffix(loop)}": kind if loop == ASYNCIO else f"{kind}@{loop}"
        for loop in loops()
        for name, kind in cases.items()
    }


def run_on(loop: str, work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on a loop of this name, as `asyncio.run` does."""
    with asyncio.Runner(loop_factory=_factory(loop)) as runner:
        return runner.run(work)


def _factory(loop: str) -> Callable[[], asyncio.AbstractEventLoop] | None:
    if loop == ASYNCIO:
        return None
    import uvloop

    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
