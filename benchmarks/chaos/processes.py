"""The processes of a round, found by a mark in their environment, whoever their parent has become."""

import asyncio
import math
import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MARK: Final = "CHAOS_OWNER"
_RECORDER: Final = "gst-launch"
_LOOK: Final = 0.05


@dataclass(frozen=True)
class Process:
    """One that runs.

    Attributes:
        pid: Its id.
        owner: The mark that it inherited.
        command: Its command line.
    """

    pid: int
    owner: str
    command: str

    @property
    def records(self) -> bool:
        return _RECORDER in self.command


def of(owner: str) -> list[Process]:
    """All that run and carry a mark."""
    return [one for one in _marked() if one.owner == owner]


async def gone(owner: str, grace: float, *, recorders: bool = False) -> list[Process]:
    """Return those with a mark that do not end within so many seconds; of the recorders among them only."""
    until = time.monotonic() + grace
    for _ in range(math.ceil(grace / _LOOK)):
        left = [one for one in of(owner) if one.records or not recorders]
        if not left or time.monotonic() > until:
            break
        await asyncio.sleep(_LOOK)
    return left


def send(owner: str, number: signal.Signals) -> None:
    """Send a signal to all that carry a mark."""
    for one in of(owner):
        with suppress(ProcessLookupError):
            os.kill(one.pid, number)


def _marked() -> Iterator[Process]:
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            environment = (entry / "environ").read_bytes().split(b"\0")
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:  # it has ended, or is somebody else's
            continue
        if state in "ZX":
            continue
        for line in environment:
            name, _, value = line.partition(b"=")
            if name == MARK.encode():
                yield Process(int(entry.name), value.decode(), command.strip())
