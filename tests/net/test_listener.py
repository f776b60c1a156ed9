"""A listening port: what it accepts is handed out or closed."""

import asyncio
import errno
import socket
from collections.abc import Callable

import pytest

from asynccam.net import listener as module
from asynccam.net.listener import Listener
from tests.support.waiting import eventually


def connections(accepted: list[socket.socket]) -> Callable[[socket.socket, str, int], None]:
    return lambda sock, host, port: accepted.append(sock)


@pytest.mark.parametrize("turns", range(4))
async def test_close_beside_an_arriving_connection_loses_no_socket(turns: int) -> None:
    """A socket that is accepted and not handed out would be a ResourceWarning, which fails the test."""
    accepted: list[socket.socket] = []
    listener = Listener("127.0.0.1", 0, connections(accepted))
    await listener.open()
    for _ in range(3):
        await asyncio.sleep(0)  # it waits for a connection by then
    with socket.create_connection(("127.0.0.1", listener.port)):
        for _ in range(turns):
            await asyncio.sleep(0)
        listener.close()
        listener.close()
    for sock in accepted:
        sock.close()


async def test_connections_are_accepted_again_after_a_lack_of_descriptors(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_ACCEPT_PAUSE", 0.01)
    accepted: list[socket.socket] = []
    refused: list[int] = []

    class Scarce(socket.socket):
        def accept(self) -> tuple[socket.socket, object]:
            if len(refused) < 2:
                refused.append(1)
                raise OSError(errno.EMFILE, "Too many open files")
            return super().accept()

    monkeypatch.setattr("asynccam.net.listener.socket.socket", Scarce)
    listener = Listener("127.0.0.1", 0, connections(accepted))
    await listener.open()
    try:
        with socket.create_connection(("127.0.0.1", listener.port)):
            await eventually(lambda: accepted)
    finally:
        listener.close()
        for sock in accepted:
            sock.close()
    assert "cannot accept a connection" in caplog.text


async def test_close_during_the_pause_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: socket.socket) -> tuple[socket.socket, object]:
        raise OSError(errno.EMFILE, "Too many open files")

    scarce = type("Scarce", (socket.socket,), {"accept": refuse})
    monkeypatch.setattr("asynccam.net.listener.socket.socket", scarce)
    listener = Listener("127.0.0.1", 0, connections([]))
    await listener.open()
    with socket.create_connection(("127.0.0.1", listener.port)):
        await eventually(lambda: listener._pauses)
        (pause,) = listener._pauses.values()
        listener.close()
    assert pause.cancelled()
