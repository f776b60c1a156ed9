"""How soon a session knows that a camera has gone, and that it is back.

    python -m benchmarks.presence [--poll-interval S] [--within S] [--faults F ...] [--loopback] [--json]

Five systems as real processes, named in every way (single address, address of a service, fleet, discovery;
and addresses at which nobody has answered yet), are killed, frozen, cut off and moved. For each cell it
prints the seconds until the camera was unavailable and until it was back, counted from the fault and from the
moment at which the device could answer again, and ends with 1 if one took longer than ``poll_interval`` plus
2 s, the promise of docs/fleet.md. Where a connection reports a loss, that state has one second.

The cables are those of a network namespace. Where the kernel refuses one, or with ``--loopback``, a proxy
that swallows all bytes stands in for them, and only MultiCam, whose devices tell their ids, can move.
"""

import argparse
import asyncio
import json
import os
import signal
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

from asynccam import Session
from tests.support.cables import HERE, INSIDE, NAME, cable, is_allowed
from tests.support.devices import free_port
from tests.support.rows import SERVICES, SYSTEMS, Row
from tests.support.swallowing import swallowing

_AT_ONCE: Final = 1.0
"""Seconds in which a camera is away whose connection tells of the loss."""
_SPARE: Final = 2.0
_GIVE_UP: Final = 60.0
"""Seconds after which a state is not waited for any longer."""
_POLL: Final = 0.005
_INSIDE: Final = "ASYNCCAM_PRESENCE_INSIDE"


@dataclass(frozen=True)
class Cell:
    """One camera of one session.

    Attributes:
        system: Its system.
        named: How it came into the session.
        session: The session.
        key: Its id; or its address, as long as nobody has answered there.
        unmet: Whether nobody has answered there when the fault begins.
    """

    system: str
    named: str
    session: Session
    key: str
    unmet: bool = False

    @property
    def is_away(self) -> bool:
        """Return whether the session says that the camera is unavailable."""
        return self.key in self.session.unavailable and self.session.unavailable[self.key].error is not None

    @property
    def is_back(self) -> bool:
        """Return whether the camera is available."""
        if not self.unmet:
            return self.key not in self.session.unavailable
        there = {camera.info.address for camera in self.session.cameras.values()}
        return self.key not in self.session.unavailable and any(one.startswith(self.key) for one in there)


@dataclass
class Times:
    """Measurements of one cell, in seconds; None for a state that never came."""

    fault: str
    system: str
    named: str
    away: float | None
    away_limit: float
    back: float | None
    back_limit: float

    @property
    def is_kept(self) -> bool:
        """Return whether both were in time."""
        return (
            self.away is not None
            and self.away <= self.away_limit
            and self.back is not None
            and self.back <= self.back_limit
        )


@dataclass
class Fault:
    """One way to go and to come back.

    Attributes:
        begin: Makes the devices go.
        end: Brings them back.
        told: Systems whose connection tells of it at once.
        systems: Whether a cell can come back from it.
        starts: Whether the devices are started anew, so that each is there when it says so.
    """

    begin: Callable[[], Awaitable[None]]
    end: Callable[[], Awaitable[None]]
    told: frozenset[str] = frozenset()
    systems: Callable[[Cell], bool] = field(default=lambda cell: True)
    starts: bool = False


class World(Protocol):
    """Devices, what connects them with this process, and the faults of both."""

    row: Row
    interface: str
    mdns: bool

    def faults(self) -> dict[str, Fault]:
        """All faults by name."""
        ...


def _frozen(row: Row) -> Fault:
    async def send(number: signal.Signals) -> None:
        row.signal(number)

    return Fault(lambda: send(signal.SIGSTOP), lambda: send(signal.SIGCONT))


class Cables:
    """A world in network namespaces."""

    mdns = True
    interface = HERE

    def __init__(self, row: Row, faults: dict[str, Fault]) -> None:
        self.row = row
        self._faults = faults

    def faults(self) -> dict[str, Fault]:
        """All faults by name."""
        return self._faults

    @classmethod
    @asynccontextmanager
    async def open(cls, directory: Path) -> AsyncIterator["Cables"]:
        """The world while it lasts."""
        async with cable(directory) as wire:
            row = Row(directory, host=NAME, listen="0.0.0.0", prefix=wire.prefix)
            own = row.options["multicam"]
            row.options["snapshot"] = ("--allow-host", NAME)

            def announced() -> None:
                row.options["multicam"] = (*own, "--announce", "--interface", wire.address)

            async def restart_elsewhere() -> None:
                await wire.move()
                announced()
                row.ports["multicam"] = free_port()
                await row.start()

            announced()
            faults = {
                "killed, restarted": Fault(row.kill, row.start, frozenset({"mediamtx"}), starts=True),
                "frozen": _frozen(row),
                "unplugged here": Fault(wire.unplug, wire.plug_in),
                "cut in silence": Fault(wire.cut, wire.mend),
                "killed, restarted elsewhere": Fault(
                    row.kill,
                    restart_elsewhere,
                    frozenset({"mediamtx"}),
                    # It moves to another port: nobody can know that it was to be at the one that was named.
                    lambda cell: not (cell.unmet and cell.system == "multicam"),
                    starts=True,
                ),
            }
            try:
                await row.start()
                yield cls(row, faults)
            finally:
                await row.aclose()


class Loopback:
    """A world without namespaces: a proxy before each device that is named."""

    mdns = False
    interface = "127.0.0.1"

    def __init__(self, row: Row, faults: dict[str, Fault]) -> None:
        self.row = row
        self._faults = faults

    def faults(self) -> dict[str, Fault]:
        """All faults by name."""
        return self._faults

    @classmethod
    @asynccontextmanager
    async def open(cls, directory: Path) -> AsyncIterator["Loopback"]:
        """The world while it lasts."""
        row = Row(directory)
        row.options["multicam"] += ("--announce", "--interface", "127.0.0.1")
        async with AsyncExitStack() as stack:
            proxies = [await stack.enter_async_context(swallowing(port)) for port in row.ports.values()]
            row.shown = dict(zip(row.ports, (one.port for one in proxies), strict=True))
            stack.push_async_callback(row.aclose)
            await row.start()

            async def cut() -> None:
                for one in proxies:
                    one.cut()

            async def mend() -> None:
                for one in proxies:
                    one.mend()

            async def kill() -> None:
                await row.kill()
                for one in proxies:
                    await one.refuse()

            async def restart() -> None:
                for one in proxies:
                    await one.start()
                await row.start()

            async def restart_elsewhere() -> None:
                row.ports["multicam"] = free_port()
                await row.start("multicam")

            faults = {
                "killed, restarted": Fault(kill, restart, frozenset({"mediamtx"}), starts=True),
                "frozen": _frozen(row),
                "cut in silence": Fault(cut, mend, systems=lambda cell: cell.named != "discovery"),
                "killed, restarted elsewhere": Fault(
                    partial(row.kill, "multicam"),
                    restart_elsewhere,
                    systems=lambda cell: cell.named == "discovery",
                    starts=True,
                ),
            }
            yield cls(row, faults)


# -- sessions ---------------------------------------------------------------------------------------


async def _sessions(world: World, poll_interval: float, directory: Path, stack: AsyncExitStack) -> list[Cell]:
    """Open a session for each way of naming cameras, and wait until all are there."""
    row = world.row
    given: Any = {
        "interfaces": [world.interface],
        "poll_interval": poll_interval,
        "mdns": world.mdns,
        "timeout": _GIVE_UP,
    }
    fleet = directory / "fleet.toml"
    os.environ["ASYNCCAM_PRESENCE_TOKEN"] = str(row.credentials("mediamtx").token)
    entries = [
        f'[[camera]]\naddress = "{row.address(system)}"\nlabel = "{system}"\n'
        + ('token_env = "ASYNCCAM_PRESENCE_TOKEN"\n' if system == "mediamtx" else "")
        for system in SYSTEMS
    ]
    await asyncio.to_thread(fleet.write_text, "\n".join(entries))
    enter = stack.enter_async_context
    single = await enter(Session.open(*row.places(SYSTEMS), **given))
    service = await enter(Session.open(*row.places(SERVICES, of_service=True), **given))
    whole = await enter(Session.open(fleet=fleet, **given))
    found = await enter(Session(interfaces=[world.interface], poll_interval=poll_interval))
    own = f"multicam://{row.name}"
    async with asyncio.timeout(_GIVE_UP):
        while own not in found.cameras:  # other programs of this computer may announce devices as well
            await found.discover(timeout=_GIVE_UP, systems=["multicam"], count=len(found.cameras) + 1)
    named = {"single address": single, "service address": service, "fleet": whole, "discovery": found}
    cells = [
        Cell(camera.info.system, name, session, key)
        for name, session in named.items()
        for key, camera in session.cameras.items()
        if session is not found or key == own
    ]
    if len(cells) != 2 * len(SYSTEMS) + len(SERVICES) + 1:
        away = {str(one) for session in named.values() for one in session.unavailable.values()}
        raise RuntimeError(f"not all cameras are there to begin with: {away}")
    return cells


async def _unmet(world: World, poll_interval: float, stack: AsyncExitStack) -> list[Cell]:
    """Open sessions with addresses at which nobody answers, as the devices are away."""
    given: Any = {"interfaces": [world.interface], "poll_interval": poll_interval, "mdns": world.mdns}
    row = world.row
    single = await stack.enter_async_context(Session.open(*row.places(SYSTEMS), timeout=0, **given))
    service = await stack.enter_async_context(
        Session.open(*row.places(SERVICES, of_service=True), timeout=0, **given)
    )
    return [
        Cell(
            system,
            f"{name}, never met",
            session,
            str(row.address(system, of_service=session is service)),
            True,
        )
        for name, session, systems in (
            ("single address", single, SYSTEMS),
            ("service address", service, SERVICES),
        )
        for system in systems
    ]


async def _until(cells: Sequence[Cell], holds: Callable[[Cell], bool]) -> dict[Cell, float]:
    """The moments, in the loop's time, at which each came into a state; those that never did are left out."""
    loop = asyncio.get_running_loop()
    until = loop.time() + _GIVE_UP
    came: dict[Cell, float] = {}
    while len(came) < len(cells) and loop.time() < until:
        for cell in cells:
            if cell not in came and holds(cell):
                came[cell] = loop.time()
        await asyncio.sleep(_POLL)
    return came


async def _measure(
    name: str, fault: Fault, world: World, met: Sequence[Cell], options: argparse.Namespace
) -> list[Times]:
    """Let all devices go and come back once."""
    loop = asyncio.get_running_loop()
    promised = options.poll_interval + _SPARE if options.within is None else options.within
    at_once = _AT_ONCE if options.within is None else options.within
    cells = [cell for cell in met if fault.systems(cell)]
    if len(await _until(cells, lambda cell: cell.is_back)) < len(cells):
        raise RuntimeError(f"not all cameras are there before they are {name}")
    async with AsyncExitStack() as stack:
        began = loop.time()
        await fault.begin()
        went = asyncio.ensure_future(_until(cells, lambda cell: cell.is_away))
        new = [cell for cell in await _unmet(world, options.poll_interval, stack) if fault.systems(cell)]
        opened = loop.time()
        new_went = await _until(new, lambda cell: cell.is_away)
        gone = await went
        # The waits between tries have grown by then, and a try may be at any place of them.
        await asyncio.sleep(options.away)
        ending = loop.time()
        came = asyncio.ensure_future(_until([*cells, *new], lambda cell: cell.is_back))
        await fault.end()
        back = await came
    since = {system: world.row.since[system] if fault.starts else ending for system in SYSTEMS}

    def times(cell: Cell) -> Times:
        went_at = gone.get(cell) or new_went.get(cell)
        return Times(
            name,
            cell.system,
            cell.named,
            None if went_at is None else went_at - (opened if cell.unmet else began),
            at_once if cell.system in fault.told and not cell.unmet else promised,
            None if cell not in back else max(back[cell] - since[cell.system], 0.0),
            promised,
        )

    return [times(cell) for cell in (*cells, *new)]


# -- telling -------------------------------------------------------------------------------------------


def _tell(times: Sequence[Times], *, as_json: bool) -> None:
    if as_json:
        for one in times:
            print(json.dumps({**vars(one), "kept": one.is_kept}), flush=True)
        return
    for one in times:
        away, back = (_seconds(value) for value in (one.away, one.back))
        print(
            f"{one.fault:<28}{one.system:<12}{one.named:<28}away {away} of {one.away_limit:4.1f}   "
            f"back {back} of {one.back_limit:4.1f}   {'' if one.is_kept else 'MISSED'}".rstrip(),
            flush=True,
        )


def _seconds(value: float | None) -> str:
    return " never" if value is None else f"{value:6.2f}"


def _summary(times: Sequence[Times]) -> str:
    away = [one.away for one in times if one.away is not None]
    back = [one.back for one in times if one.back is not None]
    missed = sum(not one.is_kept for one in times)
    return (
        f"{len(times)} cells, {missed} missed; away: median {statistics.median(away):.2f} s, "
        f"longest {max(away):.2f} s; back: median {statistics.median(back):.2f} s, longest {max(back):.2f} s"
    )


async def _run(options: argparse.Namespace) -> int:
    opened = Loopback.open if options.loopback else Cables.open
    everything: list[Times] = []
    with tempfile.TemporaryDirectory(prefix="presence-") as directory:
        async with opened(Path(directory)) as world, AsyncExitStack() as stack:
            cells = await _sessions(world, options.poll_interval, Path(directory), stack)
            faults = world.faults()
            for _ in range(options.rounds):
                for name in options.faults or faults:
                    measured = await _measure(name, faults[name], world, cells, options)
                    _tell(measured, as_json=options.json)
                    everything += measured
    if not options.json and everything:
        print(_summary(everything))
    return 0 if all(one.is_kept for one in everything) else 1


def main() -> int:
    """Measure, print, and return the exit code."""
    parser = argparse.ArgumentParser(
        description="How soon a session knows that a camera has gone, and is back."
    )
    parser.add_argument("--poll-interval", type=float, default=3.0, metavar="S", help="of the sessions")
    parser.add_argument(
        "--away", type=float, metavar="S", help="seconds to leave cameras away; 4 x poll_interval"
    )
    parser.add_argument(
        "--within", type=float, metavar="S", help="instead of poll_interval + 2 s and at once"
    )
    parser.add_argument("--rounds", type=int, default=1, metavar="N")
    parser.add_argument("--faults", nargs="*", metavar="NAME", help="only these, by their printed names")
    parser.add_argument("--loopback", action="store_true", help="a proxy instead of network namespaces")
    parser.add_argument("--json", action="store_true", help="one JSON object a cell")
    options = parser.parse_args()
    if options.away is None:
        options.away = 4 * options.poll_interval
    if not options.loopback and _INSIDE not in os.environ:
        if is_allowed():
            os.environ[_INSIDE] = "yes"
            command = [*INSIDE, sys.executable, "-m", "benchmarks.presence", *sys.argv[1:]]
            os.execvp(command[0], command)
        print("no network namespaces here; a proxy swallows bytes instead", file=sys.stderr)
        options.loopback = True
    return asyncio.run(_run(options))


if __name__ == "__main__":
    sys.exit(main())
