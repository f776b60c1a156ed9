"""What a process holds: tasks, threads, children and descriptors, to compare before and after a test."""

import asyncio
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

# Descriptors the interpreter opens once and keeps, at a moment of its own choosing.
_KEPT_BY_PYTHON: Final = ("/dev/urandom", "/dev/random")


@dataclass(frozen=True)
class Holdings:
    """A picture of what this process holds."""

    threads: frozenset[threading.Thread]
    children: Mapping[int, str]
    descriptors: Mapping[int, str]

    @classmethod
    def now(cls) -> "Holdings":
        return cls(frozenset(threading.enumerate()), _children(), _descriptors())

    def gained_since(self, before: "Holdings") -> list[str]:
        """Return what is held now and was not before, in words; empty when nothing was left behind."""
        gained = [f"thread {thread.name}" for thread in self.threads - before.threads]
        gained += [f"process {pid} ({self.children[pid]})" for pid in self.children.keys() - before.children]
        for number, target in self.descriptors.items():
            if before.descriptors.get(number) != target:
                gained.append(f"descriptor {number} ({target})")
        return sorted(gained)


def left_behind(before: Holdings, grace: float) -> list[str]:
    """Return what this process gained since ``before`` and does not let go of within ``grace`` seconds."""
    until = time.monotonic() + grace
    while True:
        gained = Holdings.now().gained_since(before)
        if not gained or time.monotonic() > until:
            return gained
        time.sleep(0.01)


async def tasks_left_behind(before: set["asyncio.Task[object]"], grace: float) -> list[str]:
    """Tasks of the running loop that are neither in ``before`` nor end within ``grace`` seconds."""
    until = time.monotonic() + grace
    while True:
        current = asyncio.current_task()
        left = {task for task in asyncio.all_tasks() - before if task is not current and not task.done()}
        if not left or time.monotonic() > until:
            return sorted(f"task {task.get_name()}: {task.get_coro()!r}" for task in left)
        await asyncio.sleep(0.005)


def _descriptors() -> dict[int, str]:
    held: dict[int, str] = {}
    for entry in os.listdir("/proc/self/fd"):  # noqa: PTH208 - names only, thousands of times
        try:
            target = os.readlink(f"/proc/self/fd/{entry}")  # noqa: PTH115 - as above
        except FileNotFoundError:  # the descriptor of this listing itself
            continue
        if target not in _KEPT_BY_PYTHON:
            held[int(entry)] = target
    return held


def _children() -> dict[int, str]:
    held: dict[int, str] = {}
    for listing in Path("/proc/self/task").glob("*/children"):
        try:
            pids = listing.read_text().split()
        except (FileNotFoundError, ProcessLookupError):  # a thread that just ended
            continue
        for pid in pids:
            held[int(pid)] = _command_of(int(pid))
    return held


def _command_of(pid: int) -> str:
    try:
        line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except (FileNotFoundError, ProcessLookupError):
        return "gone"
    return line or "zombie"
