"""Clients for tests, on loopback and with short waits."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from asynccam.systems.mediamtx import CameraClient
from tests.support.waiting import eventually
from tests.systems.mediamtx.peer import TOKEN, Peer


def client_of(peer: Peer, **options: Any) -> CameraClient:
    """A client for a peer; not connected."""
    options.setdefault("auth_token", TOKEN)
    options.setdefault("retry_delay", 0.01)
    options.setdefault("timeout", 5.0)
    return CameraClient(host="127.0.0.1", port=peer.port, **options)


@asynccontextmanager
async def connected(peer: Peer, **options: Any) -> AsyncIterator[CameraClient]:
    """A connected client, disconnected at the end."""
    client = client_of(peer, **options)
    await client.connect()
    try:
        yield client
    finally:
        await client.disconnect()


async def lose_and_return(client: CameraClient, peer: Peer) -> None:
    """Drop the connection and see the client come back."""
    before = peer.accepted
    peer.drop()
    await eventually(lambda: peer.accepted > before)
    await client.wait_until_connected(timeout=5)
