"""A simulated service as one coroutine: what ``asynccam simulate mediamtx`` runs."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from asynccam.systems.mediamtx.simulator.behavior import ServiceFaults
from asynccam.systems.mediamtx.simulator.simulator import MediaMTXSimulator

DEFAULT_PORT: Final = 8002
DEFAULT_HTTP_PORT: Final = 8003


async def serve(
    *,
    host: str = "127.0.0.1",
    port: int = DEFAULT_PORT,
    http_port: int | None = DEFAULT_HTTP_PORT,
    generation: int = 1,
    directory: Path | None = None,
    cameras: int | Sequence[str] = 2,
    secret: str = "",
    api_keys: Mapping[str, str] | None = None,
    live: bool = False,
    faults: ServiceFaults | None = None,
    on_ready: Callable[[MediaMTXSimulator], None] = lambda _: None,
) -> None:
    """Be a service until cancelled.

    Args:
        host: Address to listen at.
        port: Of the WebSocket; 0 takes a free one.
        http_port: Of the file server; None for the WebSocket's, 0 takes a free one.
        generation: 1 or 2.
        directory: Where recordings and pictures are kept; None for a temporary one.
        cameras: How many cameras, or their names.
        secret: Signs tokens; a random one if empty.
        api_keys: Key -> role.
        live: Record with GStreamer each time, instead of copying one recording.
        faults: How it misbehaves.
        on_ready: Called once it listens.

    Raises:
        ConnectionError: The address cannot be listened at.
        StorageError: The directory cannot be used.
        UsageError: No such generation or role.
    """
    simulator = MediaMTXSimulator(
        generation=generation,
        host=host,
        port=port,
        http_port=http_port,
        directory=directory,
        cameras=cameras,
        secret=secret,
        api_keys=api_keys,
        live=live,
        faults=faults,
    )
    async with simulator:
        on_ready(simulator)
        await asyncio.Event().wait()
