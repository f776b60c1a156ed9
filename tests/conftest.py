"""Rules that hold for every test: nothing is left behind, and nothing blocks the event loop."""

import asyncio
import gc
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

import pydantic
import pytest
import pytest_asyncio
import uvloop
from blockbuster import BlockBuster
from hypothesis import settings

from tests.support.leftovers import Holdings, left_behind, tasks_left_behind
from tests.support.marks import SLOWEST, TESTS, marks_of

# A test that is slow because others run beside it is not wrong.
settings.register_profile("asynccam", deadline=None)
settings.load_profile("asynccam")

if os.environ.pop("PYTHONDONTWRITEBYTECODE", ""):
    # Beside the package there shall be no bytecode. Without any, each of the hundreds of commands that tests
    # start would compile all that it imports, a quarter of its CPU.
    os.environ.setdefault(
        "PYTHONPYCACHEPREFIX", str(Path(__file__).parents[1] / ".pytest_cache" / "bytecode")
    )

uvloop.new_event_loop().close()  # opens the pipe that libuv keeps for the life of the process
BOTH_LOOPS = ("net", "systems/mediamtx", "take/test_take_multicam.py")
"""Tests that run on asyncio's own loop and on uvloop, but for those with the mark own_loop."""

GRACE = 2.0
"""Seconds a test's threads, processes and descriptors may take to go away by themselves."""


BETWEEN = 8
"""Other files that begin between two of them, which side by side would fight for the processor."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let `.ci/test` run tests in two parts."""
    parser.addoption("--realtime", choices=["only", "none"], help="choose by the mark realtime")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out files without a test that is wanted, which saves the time of importing them."""
    wanted = config.getoption("--realtime") != "only" or collection_path.suffix != ".py"
    return None if wanted or "mark.realtime" in collection_path.read_text() else True


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark every test, and spread the slowest files over the first half: none shall run alone in the end."""
    if part := config.getoption("--realtime"):
        chosen = [item for item in items if ("realtime" in item.keywords) is (part == "only")]
        config.hook.pytest_deselected(items=[item for item in items if item not in set(chosen)])
        items[:] = chosen
    marks = {path: marks_of(path) for path in {item.path for item in items}}
    for item in items:
        for name in marks[item.path]:
            item.add_marker(name)
    slowest = {name: number for number, name in enumerate(SLOWEST)}
    others: dict[Path, int] = {}

    def place(item: pytest.Item) -> float:
        name = item.path.relative_to(TESTS).as_posix()
        if name in slowest:
            return slowest[name] * BETWEEN - 0.5
        return others.setdefault(item.path, len(others))

    items.sort(key=place)


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Let tests run on uvloop too."""
    factories: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
    name = item.path.relative_to(TESTS).as_posix()
    if name.startswith(BOTH_LOOPS) and item.get_closest_marker("own_loop") is None:
        factories["uvloop"] = uvloop.new_event_loop
    return factories


@pytest.fixture(scope="session", autouse=True)
def no_blocking_call_on_the_loop() -> Iterator[None]:
    """A call that can block, made from asynccam code on a running loop, raises BlockingError."""
    pydantic.create_model("First")  # for the first model of a process, pydantic looks for plugins on disk
    blockbuster = BlockBuster("asynccam")
    blockbuster.activate()
    yield
    blockbuster.deactivate()


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """No thread, child process or descriptor outlives the test and its fixtures."""
    before = Holdings.now()
    yield
    left = left_behind(before, GRACE)
    if left:
        gc.collect()  # so that what leaked is not blamed on the next test as well
        pytest.fail("left behind: " + "; ".join(left))


@pytest_asyncio.fixture(autouse=True)
async def no_task_left_behind(nothing_left_behind: None) -> AsyncIterator[None]:
    """No task outlives the test and its own fixtures."""
    before = asyncio.all_tasks()
    yield
    left = await tasks_left_behind(before, GRACE)
    if left:
        pytest.fail("left behind: " + "; ".join(left))
