"""One round: servers, a controller, what is done to them, the resuming, and the checks."""

import asyncio
import inspect
import json
import os
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from asynccam.cli.commands import resume
from benchmarks.chaos import checks, limits
from benchmarks.chaos.controlled import Anchors, Controlled, Ended, job_of, limit_of_take
from benchmarks.chaos.plan import FOR_GOOD, Act, Plan
from benchmarks.chaos.servers import Server
from benchmarks.chaos.world import Disk, unplugged

_GRACE: Final = 1.0
"""Seconds within which what a controller started ends with it."""
_GRACE_KILLED: Final = 5.0
_STILL: Final = 6.0
"""Seconds within which a camera that was stopped captures nothing any more."""
_SPOILS: Final = frozenset({"kill", "freeze"})
"""Acts on a server after which its pictures are no evidence of time."""


@dataclass
class Report:
    """How a round went.

    Attributes:
        number: Its number.
        systems: Who took part.
        host: What recorded.
        acts: What was done, in words, with the second after the controller's start at which it was.
        kinds: The same as ``what target`` for counting.
        outcome: What the manifest said after the controller's end, and after a resuming.
        code: The controller's exit code.
        took: Seconds of the whole.
        violations: What must not be.
    """

    number: int
    systems: list[str]
    host: str
    acts: list[str] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    outcome: list[str] = field(default_factory=list)
    code: int | None = None
    took: float = 0.0
    violations: list[str] = field(default_factory=list)

    def to_json(self) -> str:
        return json.dumps(asdict(self))


class Round:
    """One round.

    Args:
        plan: What is done.
        place: An empty directory for all of it.
        namespaces: Whether this process has file systems and a network of its own.
    """

    def __init__(self, plan: Plan, place: Path, *, namespaces: bool) -> None:
        self.report = Report(plan.number, list(plan.systems), plan.host)
        self._plan = plan
        self._place = place
        self._disk = Disk(place / "takes", mounts=namespaces)
        self._take = place / "takes" / "take"
        mark = f"{os.getpid()}-{plan.number}"
        self._servers = {
            system: Server(system, place / system, f"{mark}-{system}", mounts=namespaces)
            for system in plan.systems
        }
        self._controller = Controlled(place / "controller", f"{mark}-controller")
        self._resumer = Controlled(place / "resume", f"{mark}-resume")
        self._anchors = Anchors(self._take / "journal.jsonl", place / "controller" / "up")
        self._stopped = 0.0
        self._set_at: float | None = None
        self._repairs: list[tuple[Act, Callable[[], Awaitable[None]]]] = []

    async def run(self) -> Report:
        """Go through it."""
        began = time.monotonic()
        async with AsyncExitStack() as stack:
            for path in (self._place / "controller", self._place / "resume"):
                path.mkdir(parents=True)
            stack.callback(self._disk.unmount)
            self._disk.mount()
            for server in self._servers.values():
                stack.push_async_callback(server.aclose)
            await asyncio.gather(*(server.prepare() for server in self._servers.values()))
            await asyncio.gather(*(server.start() for server in self._servers.values()))
            ended = await self._record()
            await self._restore()
            resumed = await self._resume()
            facts = await self._facts()
            found = self.report.violations
            found += checks.of_directory(facts)
            found += checks.of_disks(facts)
            found += checks.of_recording(facts)
            last = resumed or ended
            code = last.code if (resumed or self._plan.is_command) else None
            found += checks.of_outcomes(facts, code)
            found += await checks.of_files(facts)
            self._disk.keep()
        for system, server in self._servers.items():
            found += checks.of_log(system, server.log)
        self.report.took = time.monotonic() - began
        return self.report

    # -- the take -------------------------------------------------------------------------------

    async def _record(self) -> Ended:
        """Run the controller to its end while things are done to it and to the servers."""
        controller = self._controller
        arguments, variables = job_of(
            self._plan, self._servers, self._take.parent, self._place / "controller"
        )
        await controller.start(arguments, variables, limit_of_take(self._plan, len(self._servers)))
        began = time.monotonic()
        follow = asyncio.ensure_future(self._anchors.follow())
        acting = [asyncio.ensure_future(self._act(act, began)) for act in self._plan.acts]
        ended = await controller.ended()
        for task in (follow, *acting):
            task.cancel()
        done = await asyncio.gather(*acting, return_exceptions=True)
        await asyncio.gather(follow, return_exceptions=True)
        for one in done:
            if isinstance(one, Exception):
                raise one
        self._look_at("controller", ended, self._fatal())
        self.report.code = ended.code
        killed = ended.code < 0 or ended.hung
        left = await controller.left_behind(_GRACE_KILLED if killed else _GRACE)
        self.report.violations += [f"the controller left behind: {one}" for one in left]
        if not killed:
            self.report.violations += [
                f"the controller left {path.name} in its temporary directory"
                for path in controller.temporary.iterdir()
            ]
        self._note_outcome()
        return ended

    def _fatal(self) -> set[str]:
        return {act.what for act in self._plan.acts if act.target == "controller" and act.what in FOR_GOOD}

    def _look_at(self, what: str, ended: Ended, signals: set[str]) -> None:
        self.report.violations += checks.of_process(what, ended, signals)

    async def _act(self, act: Act, began: float) -> None:
        """Do one thing when its moment has come, and put it right after its time."""
        await self._anchors.wait(act.anchor)
        await asyncio.sleep(act.delay)
        self.report.acts.append(f"{act} ({time.monotonic() - began:.1f} s)")
        of = (
            "controller"
            if act.target == "controller"
            else act.target
            if act.target == "network"
            else "server"
        )
        self.report.kinds.append(f"{act.what} {of}")
        if act.target == "controller":
            await self._to_controller(act)
            return
        repair = await (self._to_network(act) if act.target == "network" else self._to_server(act))
        self._repairs.append((act, repair))
        if act.lasts is not None:
            await asyncio.sleep(act.lasts)
            self._repairs.remove((act, repair))
            await repair()

    async def _to_controller(self, act: Act) -> None:
        controller = self._controller
        signals = {
            "kill": signal.SIGKILL,
            "terminate": signal.SIGTERM,
            "terminate twice": signal.SIGTERM,
            "interrupt": signal.SIGINT,
            "interrupt twice": signal.SIGINT,
        }
        if act.what in signals:
            self._shorten()
            controller.send(signals[act.what])
            if act.what.endswith("twice"):
                await asyncio.sleep((act.lasts or 0.0) / 2)
                controller.send(signals[act.what])
        elif act.what == "cancel":
            self._shorten()
            await controller.write("cancel\n")
        elif act.what == "set clock":
            self._set_at = time.time()
            controller.send(signal.SIGURG)
        elif act.what == "fill disk":
            self._disk.fill()
            if act.lasts is not None:
                await asyncio.sleep(act.lasts)
                self._disk.free()
        else:
            await self._stop_for(act)

    def _shorten(self) -> None:
        """From here on, only the time to end in counts."""
        end = time.monotonic() + limits.of_end(command=self._plan.is_command)
        self._controller.deadline = min(self._controller.deadline, end)

    async def _stop_for(self, act: Act) -> None:
        """Freeze the controller; asleep, all that it started stands still, and monotonic time with it."""
        from benchmarks.chaos import processes

        controller, began = self._controller, time.monotonic()
        if act.what == "freeze":
            controller.send(signal.SIGSTOP)
        else:
            processes.send(controller.mark, signal.SIGSTOP)
        try:
            await asyncio.sleep(act.lasts or 0.0)
        finally:
            if act.what == "sleep":
                controller.slept_file.write_text(f"{time.monotonic() - began:.6f}")
                controller.send(signal.SIGWINCH)
                processes.send(controller.mark, signal.SIGCONT)
            controller.send(signal.SIGCONT)

    async def _to_network(self, act: Act) -> Callable[[], Awaitable[None]]:
        put_back = unplugged()

        async def repair() -> None:
            put_back()

        return repair

    async def _to_server(self, act: Act) -> Callable[[], Awaitable[None]]:
        server = self._servers[act.target]
        if act.what in _SPOILS:
            server.spoiled.append(act.what)
        if act.what == "kill":
            await server.kill()
            return server.restore
        undo = server.act(act.what)

        async def repair() -> None:
            undo()

        return repair

    # -- after it -------------------------------------------------------------------------------

    async def _restore(self) -> None:
        """Put everything right, so that the take can be finished."""
        for _, repair in self._repairs:
            await repair()
        await asyncio.gather(*(server.restore() for server in self._servers.values()))
        self._disk.free()

    async def _resume(self) -> Ended | None:
        """Finish the take by the command, if something of it is left to do."""
        if not self._take.exists():
            return None
        manifest = self._manifest()
        if manifest is not None and manifest["outcome"] != "running" and not self._journal_stays():
            return None
        _, variables = job_of(self._plan, self._servers, self._take.parent, self._place / "resume")
        variables.pop("CHAOS_CLOCK_STEP")
        arguments = ["command", "resume", str(self._take), "--json"]
        if "host" in inspect.signature(resume.resume).parameters:
            arguments += ["--host", "127.0.0.1"]
        await self._resumer.start(arguments, variables, limits.of_resuming(len(self._servers)))
        ended = await self._resumer.ended()
        self._look_at("resume", ended, set())
        if ended.code == 2 and self._journal_stays():
            self.report.violations.append(f"resume refused: {ended.err.strip()[-300:]}")
        left = await self._resumer.left_behind(_GRACE)
        self.report.violations += [f"resume left behind: {one}" for one in left]
        self._note_outcome()
        return ended

    def _journal_stays(self) -> bool:
        return (self._take / "journal.jsonl").exists()

    def _manifest(self) -> dict[str, Any] | None:
        with suppress(OSError, ValueError):
            read: dict[str, Any] = json.loads((self._take / "manifest.json").read_text())
            return read
        return None

    def _note_outcome(self) -> None:
        manifest = self._manifest()
        self.report.outcome.append("none" if manifest is None else manifest["outcome"])

    async def _facts(self) -> checks.Facts:
        """Return the facts of the round that are known from outside."""
        capturing = await asyncio.gather(*(server.captures(_STILL) for server in self._servers.values()))
        manifest = self._manifest()
        created = next((one["at"] for one in self._anchors.entries if one.get("event") == "created"), None)
        ahead = 0.0
        if self._set_at is not None and created is not None:
            seen = self._anchors.seen["created"]
            ahead = next((act.by for act in self._plan.acts if act.by), 0.0)
            if abs(created - seen) < abs(ahead) / 2:
                ahead = 0.0  # the clock was set later, which the take's scale does not follow
        return checks.Facts(
            self._take,
            manifest,
            self._anchors.entries,
            {
                system: [path for path in server.disk.rglob("*") if path.suffix.lower() in checks.MEDIA]
                for system, server in self._servers.items()
            },
            dict(zip(self._servers, capturing, strict=True)),
            {system: server.spoiled for system, server in self._servers.items()},
            ahead,
        )
