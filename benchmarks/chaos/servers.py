"""The devices and services of a round: real processes that are killed, frozen, cut off and restarted."""

import asyncio
import json
import os
import random
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final

from benchmarks.chaos import processes
from benchmarks.chaos.proxy import Proxy
from benchmarks.chaos.world import Disk

_HOST: Final = "127.0.0.1"
_SECRET: Final = "one secret of at least thirty-two bytes for all rounds"
_START_TIMEOUT: Final = 60.0
_CAMERA: Final = {"mediamtx": "/camera0", "thorvision": "/simulated-0", "snapshot": "/test1"}
_SETTINGS: Final = ("ASYNCCAM_", "MEDIAMTX_")
_PORTS: Final = (12_000, 30_000)
"""Below those that Linux gives away by itself, from 32768 on."""
_END_TIMEOUT: Final = 20.0
_ROOM: Final = 48 << 20
_ROOM_OF_PHONE: Final = 320 << 20
"""Bytes; a MultiCam device does not record with less than 256 MiB free."""


class Server:
    """One server behind a network that can be cut.

    Args:
        system: Which of the five.
        place: Where it keeps everything.
        mark: The mark of its processes.
        mounts: Whether its disk can be a file system of its own.

    Attributes:
        system: As given.
        mark: As given.
        token: What it wants to see, or None.
        disk: Where it keeps recordings.
        spoiled: Why its pictures are no evidence of time; empty if they are.
    """

    def __init__(self, system: str, place: Path, mark: str, *, mounts: bool) -> None:
        self.system = system
        self.mark = mark
        self.token: str | None = None
        self.disk = place / "disk"
        self.spoiled: list[str] = []
        self._place = place
        size = _ROOM_OF_PHONE if system == "multicam" else _ROOM
        self._space = Disk(self.disk, mounts=mounts, size=size)
        self._port, self._http_port = _port(), _port()
        self._proxy, self._http_proxy = Proxy(self._port), Proxy(self._http_port)
        self._process: asyncio.subprocess.Process | None = None
        self._log: IO[bytes] | None = None

    @property
    def address(self) -> str:
        """Of its camera, as the controller is told it."""
        return f"{self.system}://{_HOST}:{self._proxy.port}{_CAMERA.get(self.system, '')}"

    @property
    def http_port(self) -> int:
        """Return the port at which the controller finds the file server of MediaMTX."""
        return self._http_proxy.port

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def captures(self, grace: float) -> list[str]:
        """Command lines of its processes that capture, and go on to do so for so many seconds."""
        return [one.command for one in await processes.gone(self.mark, grace, recorders=True)]

    @property
    def log(self) -> str:
        """All that it wrote on stderr."""
        path = self._place / "stderr.txt"
        return path.read_text(errors="replace") if path.exists() else ""

    async def prepare(self) -> None:
        """Make its directories and its network."""
        (self._place / "tmp").mkdir(parents=True, exist_ok=True)
        self._space.mount()
        await self._proxy.start()
        await self._http_proxy.start()

    async def start(self) -> None:
        """Start the process where it was before, and wait until it listens."""
        if self._log is None:
            self._log = (self._place / "stderr.txt").open("ab")
        process = self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "asynccam", *self._command(), "--json", "--while-stdin-open"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=self._log,
            start_new_session=True,
            env=environment(self.mark, self._place / "tmp"),
        )
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), _START_TIMEOUT)
        if not line:
            raise RuntimeError(f"{self.system} did not start: {self.log[-500:]}")
        self.token = json.loads(line).get("token") if self.system == "mediamtx" else None

    def act(self, what: str) -> Callable[[], None]:
        """Do something to it, and return what puts it right, for what needs no new process."""
        if what == "freeze":
            processes.send(self.mark, signal.SIGSTOP)
            return lambda: processes.send(self.mark, signal.SIGCONT)
        if what == "fill disk":
            self._space.fill()
            return self._space.free
        for proxy in (self._proxy, self._http_proxy):
            {"cut": proxy.cut, "mute": proxy.mute}[what]()
        return self._mend

    async def kill(self) -> None:
        """Let it die with all its processes, as a device does whose power fails."""
        processes.send(self.mark, signal.SIGKILL)
        if self._process is not None:
            await self._process.wait()

    async def restore(self) -> None:
        """Have it answer again, whatever was done to it."""
        processes.send(self.mark, signal.SIGCONT)
        self._space.free()
        self._mend()
        if not self.runs:
            await self.start()

    async def aclose(self) -> None:
        """End it, by force if need be."""
        await self._proxy.aclose()
        await self._http_proxy.aclose()
        process = self._process
        if process is not None and process.returncode is None:
            assert process.stdin is not None
            process.stdin.close()
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(process.wait(), _END_TIMEOUT)
        await self.kill()
        self._space.unmount()
        if self._log is not None:
            self._log.close()

    def _mend(self) -> None:
        self._proxy.mend()
        self._http_proxy.mend()

    def _command(self) -> tuple[str, ...]:
        at = ("--host", _HOST, "--port", str(self._port))
        size = ("--width", "640", "--height", "360")
        own: dict[str, tuple[str, ...]] = {
            "multicam": (
                *("serve", "multicam", *at, "--no-announce", "--device-id", f"chaos-{self._port}"),
                *("--directory", str(self.disk), "--text", "m"),
            ),
            "mediamtx": (
                *("simulate", "mediamtx", *at, "--http-port", str(self._http_port), "--cameras", "1"),
                *("--directory", str(self.disk), "--secret", _SECRET, "--live"),
            ),
            "thorvision": ("simulate", "thorvision", *at, "--cameras", "1", *size),
            "snapshot": ("serve", "snapshot", *at, "--test-cameras", "1", "--directory", str(self.disk)),
            "nanocam": ("serve", "nanocam", *at),
        }
        return own[self.system]


def _port() -> int:
    """A TCP port that is free, and that the kernel gives to nobody who asks for any."""
    while True:
        port = random.randint(*_PORTS)
        with socket.socket() as one, suppress(OSError):
            one.bind((_HOST, port))
            return port


def environment(mark: str, temporary: Path, more: Mapping[str, Any] | None = None) -> dict[str, str]:
    """This process's environment for one of the round's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_SETTINGS)}
    own = {processes.MARK: mark, "TMPDIR": str(temporary), "PYTHONUNBUFFERED": "1", "NO_COLOR": "1"}
    return kept | own | {name: str(value) for name, value in (more or {}).items()}
