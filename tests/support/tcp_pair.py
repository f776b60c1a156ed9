"""Two ends of a real TCP connection in one process."""

import asyncio
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def tcp_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends non-blocking: the one under test, and the peer."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        peer, _ = server.accept()
    with ours, peer:
        ours.setblocking(False)
        peer.setblocking(False)
        yield ours, peer


async def send(peer: socket.socket, data: bytes) -> None:
    await asyncio.get_running_loop().sock_sendall(peer, data)


def reset(peer: socket.socket) -> None:
    """Close so that the other end gets a reset, as from a process that was killed with unread data."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


@contextmanager
def pumping(peer: socket.socket, data: bytes) -> Iterator[None]:
    """A peer that sends as fast as it can, from a thread of its own."""

    def pump() -> None:
        peer.setblocking(True)
        peer.settimeout(30)
        peer.sendall(data)

    thread = threading.Thread(target=pump, name="pump")
    thread.start()
    try:
        yield
    finally:
        thread.join()
