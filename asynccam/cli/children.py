"""Device servers as real processes of this same command, which never outlive the one that started them."""

import asyncio
import os
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from asynccam.errors import RecordingError
from asynccam.runtime.tasks import TaskScope, finish
from asynccam.runtime.timing import deadline

_START_TIMEOUT: Final = 30.0
_PATIENCE: Final = 8.0
"""Seconds a device has to finish its recording before it is terminated, and again before it is killed."""
_TAIL: Final = 20
"""Lines of a device's stderr that are kept for the error."""


class DeviceProcess:
    """One ``asynccam serve multicam`` on a free port of this computer.

    The process watches its standard input, whose other end only this process holds: it ends when
    this one does, whatever ends it. It has a session of its own, so that Ctrl-C at the terminal
    does not reach it before its recording is brought home.

    Args:
        device_id: Its identity.
        directory: Where it keeps its recordings.
        options: More options of ``serve multicam``.
    """

    def __init__(self, device_id: str, directory: Path, options: Sequence[str]) -> None:
        self.device_id = device_id
        self._directory = directory
        self._options = options
        self._process: asyncio.subprocess.Process | None = None
        self._tail: deque[str] = deque(maxlen=_TAIL)
        self._scope = TaskScope(f"device {device_id}")

    async def start(self) -> None:
        """Start it and wait until it accepts commands and is announced.

        Raises:
            RecordingError: It ended instead; its own words are in the message.
            TimeoutError: It is not up within half a minute.
        """
        process = self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "asynccam", "serve", "multicam", "--json", "--while-stdin-open"),
            *("--host", "127.0.0.1", "--port", "0", "--device-id", self.device_id),
            *("--directory", str(self._directory)),
            *self._options,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
        assert process.stdout is not None
        assert process.stderr is not None
        errors = self._scope.spawn(self._drain(process.stderr), name="stderr")
        async with deadline(_START_TIMEOUT, f"start of the device {self.device_id}"):
            line = await process.stdout.readline()
            if not line:
                await errors
                raise RecordingError(self._last_words(), output="\n".join(self._tail))
        self._scope.spawn(self._drain(process.stdout), name="stdout")

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
        said = self._tail[-1].removeprefix("asynccam: serve multicam: ") if self._tail else "it said nothing"
        return f"the device {self.device_id} did not start: {said}"

    async def _drain(self, stream: asyncio.StreamReader) -> None:
        """Read what the process says, so that it never has to wait for a reader."""
        while line := await stream.readline():
            self._tail.append(line.decode(errors="replace").rstrip())


@asynccontextmanager
async def running(devices: Sequence[DeviceProcess], up: Callable[[str], None]) -> AsyncIterator[None]:
    """Devices for the block, started side by side and ended side by side.

    Args:
        devices: The devices, not started yet.
        up: Called with the id of each as soon as it is up.

    Raises:
        RecordingError, TimeoutError: See `DeviceProcess.start`, of the first device that failed.
    """
    async with TaskScope("devices") as scope:
        try:
            starts = {device.device_id: _start(device, up) for device in devices}
            for result in (await scope.gather(starts, name="start")).values():
                if isinstance(result, Exception):
                    raise result
            yield
        finally:
            await finish(scope.gather({device.device_id: device.end() for device in devices}, name="end"))


async def _start(device: DeviceProcess, up: Callable[[str], None]) -> None:
    await device.start()
    up(device.device_id)


async def _ended(process: asyncio.subprocess.Process, seconds: float) -> bool:
    """Whether a process ends within some seconds."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await process.wait()
    return process.returncode is not None
