"""Server processes of this command; they end when the process that started them ends."""

import asyncio
import json
import os
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from types import MappingProxyType
from typing import Any, Final

from asynccam.errors import RecordingError
from asynccam.runtime.tasks import TaskScope, finish
from asynccam.runtime.timing import deadline

_START_TIMEOUT: Final = 30.0
_STOP_TIMEOUT: Final = 8.0
"""Seconds a server has to finish its recording before it is terminated, and again before it is killed."""
_STDERR_LINES: Final = 20
"""Lines of a server's stderr that are kept for the error."""
_SETTING_PREFIXES: Final = ("ASYNCCAM_", "MEDIAMTX_")


class ServerProcess:
    """One ``asynccam serve ...`` or ``asynccam simulate ...`` process.

    The process ends when its standard input closes, and so when this process ends for any reason. It has its
    own process session, so that Ctrl-C at the terminal does not stop it before its recording is downloaded.
    ``arguments`` are those of ``asynccam``, a command that accepts ``--json`` and ``--while-stdin-open``.
    """

    def __init__(self, name: str, arguments: Sequence[str]) -> None:
        self.name = name  # in errors
        # The JSON object it printed when it began to listen: address, port and so on.
        self.facts: Mapping[str, Any] = MappingProxyType({})
        self._arguments = arguments
        self._process: asyncio.subprocess.Process | None = None
        self._tail: deque[str] = deque(maxlen=_STDERR_LINES)
        self._scope = TaskScope(f"server {name}")

    async def start(self) -> None:
        """Start the process and wait until it listens; the error has its last line of stderr."""
        process = self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "asynccam", *self._arguments, "--json", "--while-stdin-open"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
            env=_environment(),
        )
        assert process.stdout is not None
        assert process.stderr is not None
        errors = self._scope.spawn(self._drain(process.stderr), name="stderr")
        async with deadline(_START_TIMEOUT, f"start of {self.name}"):
            line = await process.stdout.readline()
            if not line:
                await errors
                command = " ".join(self._arguments[:2])
                said = self._tail[-1] if self._tail else "it said nothing"
                said = said.removeprefix(f"asynccam: {command}: ")
                raise RecordingError(f"{self.name} did not start: {said}", output="\n".join(self._tail))
        self.facts = MappingProxyType(json.loads(line))
        self._scope.spawn(self._drain(process.stdout), name="stdout")

    async def kill(self) -> None:
        """Kill the process at once, as a power failure would."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()

    async def stop(self) -> None:
        """Ask the process to end; terminate, then kill it if it does not. Completes when cancelled."""
        await finish(self._stop())

    async def _stop(self) -> None:
        process = self._process
        if process is not None:
            assert process.stdin is not None
            process.stdin.close()
            for insist in (process.terminate, process.kill):
                if await _wait_ended(process, _STOP_TIMEOUT):
                    break
                with suppress(ProcessLookupError):
                    insist()
            await process.wait()
        await self._scope.aclose()

    async def _drain(self, stream: asyncio.StreamReader) -> None:
        """Read the output, so that the process never blocks on a full pipe."""
        while line := await stream.readline():
            self._tail.append(line.decode(errors="replace").rstrip())


@asynccontextmanager
async def running_servers(
    servers: Sequence[ServerProcess], up: Callable[[ServerProcess], None] = lambda _: None
) -> AsyncIterator[None]:
    """Run servers for the block, started and stopped concurrently; call ``up`` for each that is up."""

    async def start(server: ServerProcess) -> None:
        await server.start()
        up(server)

    async with TaskScope("servers") as scope:
        try:
            await scope.gather_all({server.name: start(server) for server in servers}, name="start")
            yield
        finally:
            await finish(scope.gather({server.name: server.stop() for server in servers}, name="end"))


def _environment() -> dict[str, str]:
    """Return the environment without the user's own asynccam and MediaMTX settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_SETTING_PREFIXES)}
    return kept | {"PYTHONUNBUFFERED": "1"}


async def _wait_ended(process: asyncio.subprocess.Process, seconds: float) -> bool:
    """Return whether a process ends within some seconds."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await process.wait()
    return process.returncode is not None
