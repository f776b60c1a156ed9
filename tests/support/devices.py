"""Device servers and simulators as processes of their own, started by the command."""

import asyncio
import json
import signal
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.command import started


@dataclass(frozen=True)
class Device:
    """A process that plays a device or a service."""

    process: asyncio.subprocess.Process
    said: dict[str, Any]
    directory: Path
    http_port: int

    @property
    def address(self) -> str:
        return str(self.said.get("address") or f"{self.said['system']}://127.0.0.1:{self.said['port']}")


@asynccontextmanager
async def device_process(
    kind: str, directory: Path, *options: object, prefix: Sequence[str] = ()
) -> AsyncIterator[Device]:
    """One process, once it listens: ``multicam``, ``mediamtx``, ``thorvision`` and so on.

    Args:
        kind: Its system.
        directory: Where it keeps its files.
        options: More options of its command.
        prefix: As for `started`.
    """
    http_port = free_port()
    line: tuple[object, ...] = {
        "multicam": ("serve", "multicam", "--host", "127.0.0.1", "--no-announce", "--directory", directory),
        "mediamtx": ("simulate", "mediamtx", "--http-port", http_port, "--directory", directory),
        "nanocam": ("serve", "nanocam", "--host", "127.0.0.1"),
        "snapshot": ("serve", "snapshot", "--test-cameras", 1),
        "thorvision": ("simulate", "thorvision", "--cameras", 1, "--width", 160, "--height", 120),
    }[kind]
    async with started(*line, "--port", 0, "--json", *options, prefix=prefix) as process:
        assert process.stdout is not None
        line_said = await asyncio.wait_for(process.stdout.readline(), 40)
        if not line_said:
            _, err = await process.communicate()
            raise RuntimeError(f"{kind} did not start: {err.decode()}")
        said = json.loads(line_said)
        try:
            yield Device(process, said, directory, http_port)
        finally:
            if process.returncode is None:
                process.terminate()
                process.send_signal(signal.SIGCONT)  # one that was stopped
            await asyncio.wait_for(process.communicate(), 30)


def free_port() -> int:
    """A TCP port that nobody uses at this moment, for what cannot tell the one it was given."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port
