"""Fixtures of several tests of `asynccam.net`."""

from collections.abc import Iterator
from socket import socket

import pytest

from tests.support.tcp_pair import tcp_pair


@pytest.fixture
def pair() -> Iterator[tuple[socket, socket]]:
    """A connected TCP socket and its peer, both non-blocking."""
    with tcp_pair() as sockets:
        yield sockets
