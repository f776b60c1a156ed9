"""Servers as real processes of this same command, which never outlive the one that started them."""

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
_PATIENCE: Final = 8.0
"""Seconds a server has to finish its recording before it is terminated, and again before it is killed."""
_TAIL: Final = 20
"""Lines of a server's stderr that are kept for the error."""
_SETTINGS: Final = ("ASYNCCAM_", "MEDIAMTX_")


class ServerProcess:
    """One ``asynccam serve ...`` or ``asynccam simulate ...`` of this computer.

    The process watches its standard input, whose other end only this process holds: it ends when
    this one does, whatever ends it. It has a session of its own, so that Ctrl-C at the terminal
    does not reach it before its recording is brought home.

    Args:
        name: What it is called in errors.
        arguments: Those of ``asynccam``; the command must know ``--json`` and ``--while-stdin-open``.

    Attributes:
        name: As given.
        said: What it said once it listened: its address, its port, and so on.
    """

    def __init__(self, name: str, arguments: Sequence[str]) -> None:
        self.name = name
        self.said: Mapping[str, Any] = MappingProxyType({})
        self._arguments = arguments
        self._process: asyncio.subprocess.Process | None = None
        self._tail: deque[str] = deque(maxlen=_TAIL)
        self._scope = TaskScope(f"server {name}")

    async def start(self) -> None:
        """Start it and wait until it listens.

        Raises:
            RecordingError: It ended instead; its own words are in the message.
            TimeoutError: It is not up within half a minute.
        """
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
                raise RecordingError(self._last_words(), output="\n".join(self._tail))
        self.said = MappingProxyType(json.loads(line))
        self._scope.spawn(self._drain(process.stdout), name="stdout")

    async def kill(self) -> None:
        """Let it die at once and without a word, as a device does whose power fails."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()

    async def end(self) -> None:
        """Ask it to end, and see to it that it does; not cut short by a cancellation."""
        await finish(self._end())

    async def _end(self) -> None:
        process = self._process
        if process is not None:
            assert process.stdin is not None
            process.stdin.close()
            for insist in (process.terminate, process.kill):
                if await _ended(process, _PATIENCE):
                    break
                with suppress(ProcessLookupError):
                    insist()
            await process.wait()
        await self._scope.aclose()

    def _last_words(self) -> str:
        command = " ".join(self._arguments[:2])
        said = self._tail[-1].removeprefix(f"asynccam: {command}: ") if self._tail else "it said nothing"
        return f"{self.name} did not start: {said}"

    async def _drain(self, stream: asyncio.StreamReader) -> None:
        """Read what the process says, so that it never has to wait for a reader."""
        while line := await stream.readline():
            self._tail.append(line.decode(errors="replace").rstrip())


@asynccontextmanager
async def running(
    servers: Sequence[ServerProcess], up: Callable[[ServerProcess], None] = lambda _: None
) -> AsyncIterator[None]:
    """Servers for the block, started side by side and ended side by side.

    Args:
        servers: Not started yet; each with a name of its own.
        up: Called with each as soon as it is up.

    Raises:
        RecordingError, TimeoutError: See `ServerProcess.start`, of the first one that failed.
    """
    async with TaskScope("servers") as scope:
        try:
            starts = {server.name: _start(server, up) for server in servers}
            for result in (await scope.gather(starts, name="start")).values():
                if isinstance(result, Exception):
                    raise result
            yield
        finally:
            await finish(scope.gather({server.name: server.end() for server in servers}, name="end"))


async def _start(server: ServerProcess, up: Callable[[ServerProcess], None]) -> None:
    await server.start()
    up(server)


def _environment() -> dict[str, str]:
    """This process's environment without what would make its user's settings those of the servers."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_SETTINGS)}
    return kept | {"PYTHONUNBUFFERED": "1"}


async def _ended(process: asyncio.subprocess.Process, seconds: float) -> bool:
    """Whether a process ends within some seconds."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await process.wait()
    return process.returncode is not None
