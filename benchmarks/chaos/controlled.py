"""The controller's process of a round, and the resuming after it, as seen from outside."""

import asyncio
import json
import os
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.chaos import limits, processes
from benchmarks.chaos.plan import ANCHORS, START_IN, Plan
from benchmarks.chaos.servers import Server, environment

_LOOK: Final = 0.02
_DIES_WITHIN: Final = 5.0
"""Seconds in which a process that hangs prints where it stands."""


@dataclass
class Ended:
    """How a process ended.

    Attributes:
        code: Its exit code; below 0 for a signal.
        out: Its stdout.
        err: Its stderr.
        took: Seconds.
        hung: Whether it was still there when all its limits had passed.
    """

    code: int
    out: str
    err: str
    took: float
    hung: bool


class Controlled:
    """One process with a mark, files for its output, and a limit.

    Args:
        place: For its files.
        mark: Of its processes.
    """

    def __init__(self, place: Path, mark: str) -> None:
        self.mark = mark
        self.temporary = place / "tmp"
        self.slept_file = place / "slept"
        self.process: asyncio.subprocess.Process | None = None
        self.deadline = 0.0
        self._place = place
        self._began = 0.0

    async def start(self, arguments: list[str], variables: dict[str, Any], limit: float) -> None:
        """Start it; ``limit`` are the seconds it may take."""
        self.temporary.mkdir(parents=True, exist_ok=True)
        self._began = time.monotonic()
        self.deadline = self._began + limit
        with (self._place / "stdout.txt").open("wb") as out, (self._place / "stderr.txt").open("wb") as err:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-W", "always::ResourceWarning", "-m", "benchmarks.chaos.controller"),
                *arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=out,
                stderr=err,
                start_new_session=True,
                env=environment(self.mark, self.temporary, variables),
            )

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the controller alone."""
        assert self.process is not None
        with suppress(ProcessLookupError):
            self.process.send_signal(number)

    async def write(self, text: str) -> None:
        """Write to its stdin."""
        assert self.process is not None
        assert self.process.stdin is not None
        with suppress(ConnectionError):
            self.process.stdin.write(text.encode())
            await self.process.stdin.drain()

    async def ended(self) -> Ended:
        """Wait for its end, or until its limits have passed."""
        process = self.process
        assert process is not None
        wait = asyncio.ensure_future(process.wait())
        while not wait.done() and time.monotonic() < self.deadline:
            await asyncio.wait({wait}, timeout=0.2)
        hung = not wait.done()
        took = time.monotonic() - self._began
        if hung:
            processes.send(self.mark, signal.SIGCONT)
            for number in (signal.SIGQUIT, signal.SIGABRT):  # each has it print where it stands
                self.send(number)
                await asyncio.sleep(_LOOK)
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(asyncio.shield(wait), _DIES_WITHIN)
            processes.send(self.mark, signal.SIGKILL)
        code = await wait
        out, err = ((self._place / name).read_text(errors="replace") for name in ("stdout.txt", "stderr.txt"))
        return Ended(code, out, err, took, hung)

    async def left_behind(self, grace: float) -> list[str]:
        """Processes with its mark that do not end within so many seconds; they are killed then."""
        left = await processes.gone(self.mark, grace)
        processes.send(self.mark, signal.SIGKILL)
        return [one.command for one in left]


def job_of(
    plan: Plan, servers: dict[str, Server], takes: Path, place: Path
) -> tuple[list[str], dict[str, Any]]:
    """Arguments and environment of the controller."""
    token = next((one.token for one in servers.values() if one.token), None)
    variables: dict[str, Any] = {"CHAOS_SLEPT": place / "slept", "CHAOS_UP": place / "up"}
    if "mediamtx" in servers:
        variables |= {"MEDIAMTX_HTTP_PORT": servers["mediamtx"].http_port}
    if token:
        variables["ASYNCCAM_TOKEN"] = token
    variables["CHAOS_CLOCK_STEP"] = next((one.by for one in plan.acts if one.by), 0.0)
    addresses = [server.address for server in servers.values()]
    if plan.is_command:
        times = ["--duration", str(plan.duration), "--start-in", str(START_IN)]
        require = ["--require", "any" if plan.opens else "all"]
        arguments = ["record", *addresses, *times, *require, "--to", str(takes), "--name", "take", "--json"]
        return ["command", *arguments], variables
    job = {
        "host": plan.host,
        "opens": plan.opens,
        "addresses": addresses,
        "token": token,
        "directory": str(takes),
        "duration": plan.duration,
        "start_in": START_IN,
    }
    path = place / "job.json"
    path.write_text(json.dumps(job))
    return ["host", str(path)], variables


class Anchors:
    """Waits for the moments of a take, by its journal.

    Args:
        journal: Where it will be.
        up: A file that the controller makes when it heeds signals.

    Attributes:
        seen: When each was seen, Unix seconds of this computer.
        entries: The journal's lines so far.
    """

    def __init__(self, journal: Path, up: Path) -> None:
        self.seen: dict[str, float] = {}
        self.entries: list[dict[str, Any]] = []
        self._journal = journal
        self._up = up
        self._events = {name: asyncio.Event() for name in ANCHORS}

    def mark(self, name: str) -> None:
        """It is now."""
        if name in self._events and name not in self.seen:
            self.seen[name] = time.time()
            self._events[name].set()

    async def wait(self, name: str) -> None:
        """Wait for it."""
        await self._events[name].wait()

    async def follow(self) -> None:
        """Read the journal while it grows; until cancelled."""
        done = 0
        while True:
            if self._up.exists():
                self.mark("launch")
            with suppress(OSError):
                if os.path.getsize(self._journal) > done:  # noqa: PTH202 - many times a second
                    data = self._journal.read_bytes()
                    whole = data.rfind(b"\n") + 1
                    for line in data[done:whole].splitlines():
                        with suppress(ValueError):
                            entry = json.loads(line)
                            self.entries.append(entry)
                            self.mark(entry.get("event", ""))
                    done = whole
            await asyncio.sleep(_LOOK)


def limit_of_take(plan: Plan, cameras: int) -> float:
    """Seconds the controller may take, with what is done to it."""
    still = sum(one.lasts or 0.0 for one in plan.acts if one.target == "controller")
    return limits.of_take(START_IN, plan.duration, cameras, command=plan.is_command) + still
