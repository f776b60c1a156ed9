"""What several tests of this room need."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from socket import socket

import pytest
import uvloop

from tests.support.tcp_pair import tcp_pair

uvloop.new_event_loop().close()  # opens the pipe that libuv keeps for the life of the process


@pytest.fixture
def pair() -> Iterator[tuple[socket, socket]]:
    """A connected TCP socket and its peer, both non-blocking."""
    with tcp_pair() as sockets:
        yield sockets


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Modules that say ``BOTH_LOOPS = True`` run on asyncio's own loop and on uvloop."""
    factories: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
    if isinstance(item, pytest.Function) and getattr(item.module, "BOTH_LOOPS", False):
        factories["uvloop"] = uvloop.new_event_loop
    return factories
