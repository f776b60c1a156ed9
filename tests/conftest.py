"""Rules that hold for every test: nothing is left behind, and nothing blocks the event loop."""

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from blockbuster import BlockBuster

from tests.support.leftovers import Holdings, left_behind, tasks_left_behind

GRACE = 2.0
"""Seconds a test's threads, processes and descriptors may take to go away by themselves."""


SLOWEST_FIRST = (
    "test_take_resume.py",
    "test_nanocam.py",
    "test_tutorial.py",
    "test_demo.py",
    "test_client.py",
    "test_server_answers.py",
    "test_restart.py",
    "test_live_outputs.py",
    "test_browser_details.py",
    "test_browser.py",
    "test_ended_early.py",
)
"""Files that take longest, for what they wait for: begun last, one of them would run alone."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the slowest files first; all else keeps its order."""
    place = {name: number for number, name in enumerate(SLOWEST_FIRST)}
    items.sort(key=lambda item: place.get(item.path.name, len(place)))


@pytest.fixture(scope="session", autouse=True)
def no_blocking_call_on_the_loop() -> Iterator[None]:
    """A call that can block, made from asynccam code on a running loop, raises BlockingError."""
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
