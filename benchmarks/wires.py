"""Break the five wires at every byte of a typical exchange, in every way, and see that nothing hangs.

Each case is one exchange of a client with a server over a network in which one thing goes wrong: at one byte
the connection ends (FIN), half of it ends, it is reset, it falls silent, or the byte is another one. Of long
files every byte of the ends is tried and a sample of the middle. Or each byte of the exchange comes alone.
The client and, in turn, the server have to stand it:

- the call gives its result, or an error of `asynccam.errors`, within the sum of its deadlines and a margin;
- a file that is said to be whole is whole, and the directory holds nothing else but parts;
- the server serves the next client, and closes a connection that fell silent, where it promises that;
- no task, thread, child process or descriptor is left, and nothing is reported as "never retrieved".

``--case "multicam status: cut down 17"`` runs one again. The exit code is 1 if a case fails.
"""

import argparse
import asyncio
import gc
import itertools
import logging
import multiprocessing
import random
import re
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any, Final

from asynccam.errors import AsynccamError
from benchmarks._report import Row, arguments, emit
from benchmarks._wires_network import DROPS, FAULTS, WHOLE, Fault
from benchmarks._wires_systems import TARGETS, Target, World, stand_ins
from tests.support.leftovers import Holdings, left_behind, tasks_left_behind

_TIMES: Final = 10.0
_MARGIN: Final = 30.0
"""An exchange hangs that takes so many times its deadlines, or so many seconds more."""
_AT_ONCE: Final = 6
"""Exchanges at once, each with a server of its own; with more, a slow computer misses the deadlines."""
_STALLS_AT_ONCE: Final = 16
"""More at once of those that only wait."""
_DRIPPING: Final = 40.0
_EDGE: Final = 64
_STEP: Final = 61
_GOODBYE: Final = 16
"""Bytes of the frames that end a WebSocket, at least: no beginning of a longer exchange has them."""
_QUICK: Final = 12
"""Cases of a target in a quick run."""
_TRIES: Final = 2
_GRACE: Final = 5.0
_PART: Final = re.compile(r"\.part(-\d+)?$|^\.|\.part")


@dataclass(frozen=True)
class Finding:
    """A case that was not stood.

    Attributes:
        target: Name of the exchange.
        fault: What went wrong, or None for what was found after several.
        what: What happened.
        trace: Where.
    """

    target: str
    fault: Fault | None
    what: str
    trace: str = ""

    def __str__(self) -> str:
        return f"{self.target}: {self.fault}: {self.what}"


@dataclass
class Tally:
    """Results of cases.

    Attributes:
        outcomes: How many exchanges ended how, by the name of the result or error.
        longest: The longest an exchange took, as a share of its deadlines.
        findings: Cases that were not stood.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    longest: float = 0.0
    findings: list[Finding] = field(default_factory=list)

    @property
    def cases(self) -> int:
        return sum(self.outcomes.values())


async def learn(target: Target, directory: Path) -> list[Fault]:
    """Do the exchange once with nothing wrong, and name everything that can go wrong with it."""
    async with target.make(_made(directory / "learn")) as world:
        begins = {"up": 0, "down": 0}
        if world.head is not None:
            world.wire.arm(None)
            await world.head()
            begins = {way: max(len(data) - _GOODBYE, 0) for way, data in world.wire.seen.items()}
        world.wire.arm(None)
        await world.talk(_made(directory / "learn-files"))
        seen = {way: bytes(data) for way, data in world.wire.seen.items()}
        await world.wire.clear()
        await world.good()
    faults = [Fault(DROPS, way) for way in target.directions]
    for way in target.directions:
        for offset in _offsets(seen[way], world.truth):
            if offset < begins[way]:
                continue
            faults += [Fault(kind, way, offset) for kind in FAULTS]
    return faults


def _offsets(data: bytes, bodies: frozenset[bytes]) -> list[int]:
    """Every byte, and of each long body both ends and a sample of the middle."""
    skipped: set[int] = set()
    for body in bodies:
        place = data.find(body)
        while place >= 0:
            middle = range(place + _EDGE, place + len(body) - _EDGE)
            skipped.update(offset for offset in middle if (offset - place) % _STEP)
            place = data.find(body, place + len(body))
    return [offset for offset in range(len(data)) if offset not in skipped]


async def run_case(target: Target, world: World, fault: Fault, files: Path, tally: Tally) -> None:
    """Do the exchange with one thing wrong, and note what became of it."""
    shutil.rmtree(files, ignore_errors=True)
    files.mkdir(parents=True)
    world.wire.arm(fault)

    def find(what: str, error: BaseException | None = None) -> None:
        trace = "" if error is None else "".join(traceback.format_exception(error))
        tally.findings.append(Finding(target.name, fault, what, trace))

    # What comes byte by byte is slow, and no deadline is of the whole.
    patience = min(_TIMES * target.deadline, target.deadline + _MARGIN) + (
        _DRIPPING if fault.kind == DROPS else 0.0
    )
    began = time.monotonic()
    try:
        async with asyncio.timeout(patience) as limit:
            await world.talk(files)
        outcome = "result"
    except AsynccamError as error:
        outcome = type(error).__name__
    except TimeoutError as error:
        outcome = "hangs" if limit.expired() else "TimeoutError (foreign)"
        find(outcome, error)
    except Exception as error:  # noqa: BLE001 - which errors come out is what is looked for
        outcome = f"{type(error).__name__} (foreign)"
        find(f"{outcome}: {error}", error)
    tally.outcomes[outcome] += 1
    if fault.kind != DROPS:
        tally.longest = max(tally.longest, (time.monotonic() - began) / target.deadline)
    for what in _wrong_files(files, world, fault, lengths=target.lengths):
        find(what)
    if target.patience is not None and fault.kind == "stall" and not await _parted(world, target.patience):
        find("the server keeps a silent connection")
    await world.wire.clear()
    try:
        async with asyncio.timeout(60):
            await _served(target, world)
    except Exception as error:  # noqa: BLE001 - as above
        find(f"the next client is not served: {type(error).__name__}: {error}", error)


async def _served(target: Target, world: World) -> None:
    """Do the exchange that must succeed, again if this computer was slower than the server's patience."""
    for _ in range(_TRIES if target.patience is not None else 0):
        try:
            return await world.good()
        except (ConnectionError, TimeoutError):
            continue
    return await world.good()


async def _parted(world: World, patience: float) -> bool:
    """Return whether the server closes all connections by itself."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_TIMES * patience + _GRACE):
            await world.wire.quiet.wait()
    return world.wire.quiet.is_set()


def _wrong_files(directory: Path, world: World, fault: Fault, *, lengths: bool) -> Iterator[str]:
    sizes = {len(one) for one in world.truth}
    for path in directory.rglob("*"):
        if path.is_dir() or _PART.search(path.name):
            continue
        data = path.read_bytes()
        if fault.kind in WHOLE and data not in world.truth:
            yield f"{path.name} has {len(data)} bytes and is not the file"
        elif lengths and len(data) not in sizes and _is_in_body(world, fault):
            yield f"{path.name} has {len(data)} bytes, which is no file's length"


def _is_in_body(world: World, fault: Fault) -> bool:
    """Return whether the wrong byte was a file's, and everything around it right."""
    seen = bytes(world.wire.seen["down"])
    places = ((seen.find(one), len(one)) for one in world.truth)
    return fault.direction == "down" and any(
        0 <= place <= fault.offset < place + size for place, size in places
    )


def _made(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    return directory


@contextmanager
def _complaints(tally: Tally) -> Iterator[None]:
    """Note what asyncio and the interpreter report instead of raising it."""
    loop = asyncio.get_running_loop()

    def handler(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        trace = "".join(traceback.format_exception(error)) if error is not None else ""
        tally.findings.append(Finding("loop", None, f"{context.get('message')}: {error!r}", trace))

    def hook(raised: Any) -> None:
        trace = "".join(traceback.format_exception(raised.exc_value))
        tally.findings.append(Finding("interpreter", None, f"{raised.err_msg}: {raised.exc_value!r}", trace))

    before = sys.unraisablehook
    loop.set_exception_handler(handler)
    sys.unraisablehook = hook
    try:
        yield
    finally:
        gc.collect()
        sys.unraisablehook = before
        loop.set_exception_handler(None)


async def run_target(target: Target, faults: Sequence[Fault], directory: Path) -> Tally:
    """Run cases of a target, several at once, each row of them with a world of its own."""
    tally = Tally()
    stalls = [one for one in faults if one.kind == "stall"]
    others = [one for one in faults if one.kind != "stall"]
    tasks = asyncio.all_tasks()

    async def row(name: str, left: list[Fault]) -> None:
        files, home = directory / f"files-{name}", directory / f"world-{name}"
        while left:
            shutil.rmtree(home, ignore_errors=True)
            async with target.make(_made(home)) as world:
                while left:
                    await run_case(target, world, left.pop(), files, tally)
                    if target.fresh:
                        break

    with _complaints(tally):
        async with asyncio.TaskGroup() as group:
            for cases, rows in ((stalls, _STALLS_AT_ONCE), (others, _AT_ONCE)):
                for number in range(min(rows, len(cases))):
                    group.create_task(row(f"{cases[0].kind}-{number}", cases))
        for what in await tasks_left_behind(tasks, _GRACE):
            tally.findings.append(Finding(target.name, None, f"left behind: {what}"))
    return tally


def chosen(faults: Sequence[Fault], target: Target, count: int, seed: int) -> list[Fault]:
    """A sample of cases that is the same each time: byte by byte, and every fault in turn."""
    chance = random.Random(f"{seed}/{target.name}")
    by_kind = {kind: [one for one in faults if one.kind == kind] for kind in FAULTS}
    sample = [one for one in faults if one.kind == DROPS]
    kinds = itertools.islice(itertools.cycle(FAULTS), count - len(sample))
    return sample + [chance.choice(by_kind[kind]) for kind in kinds]


async def run_all(
    targets: Sequence[Target],
    directory: Path,
    *,
    sample: int = 0,
    seed: int = 1,
    share: tuple[int, int] = (0, 1),
) -> dict[str, Tally]:
    """Run targets one after another.

    Args:
        targets: Which.
        directory: For everything.
        sample: Cases of each, or 0 for all.
        seed: What a sample comes from.
        share: The number of this process, and how many share the cases.
    """
    tallies = {}
    async with stand_ins():
        for target in targets:
            place = _made(directory / target.name.replace(" ", "-"))
            faults = await learn(target, place)
            if sample:
                faults = chosen(faults, target, sample, seed)
            before = Holdings.now()
            tallies[target.name] = tally = await run_target(target, faults[share[0] :: share[1]], place)
            for what in await asyncio.to_thread(left_behind, before, _GRACE):
                if not what.startswith("thread asyncio_"):  # the loop's own pool
                    tally.findings.append(Finding(target.name, None, f"left behind: {what}"))
            shutil.rmtree(place, ignore_errors=True)
    return tallies


def _run_share(options: argparse.Namespace, number: int) -> dict[str, Tally]:
    """Run what falls to one of ``options.jobs`` processes."""
    logging.disable(logging.CRITICAL)  # servers warn of every client that is broken off
    targets = [one for one in TARGETS if options.target in (None, one.name)]
    with tempfile.TemporaryDirectory(prefix="asynccam-wires-") as directory:
        share = (number, options.jobs)
        return asyncio.run(
            run_all(targets, Path(directory), sample=options.sample, seed=options.seed, share=share)
        )


def _work(options: argparse.Namespace, number: int, results: "SimpleQueue[dict[str, Tally]]") -> None:
    results.put(_run_share(options, number))


def _run_jobs(options: argparse.Namespace) -> list[dict[str, Tally]]:
    if options.jobs == 1:
        return [_run_share(options, 0)]
    context = multiprocessing.get_context("spawn")
    results: SimpleQueue[dict[str, Tally]] = context.SimpleQueue()
    workers = [
        context.Process(target=_work, args=(options, number, results)) for number in range(options.jobs)
    ]
    for worker in workers:
        worker.start()
    got: list[dict[str, Tally]] = []
    while len(got) < len(workers):
        if not results.empty():
            got.append(results.get())
        elif any(worker.exitcode for worker in workers):
            sys.exit("a process of the benchmark died")
        else:
            time.sleep(0.05)
    return got


def _replay(text: str) -> None:
    name, _, words = text.partition(": ")
    target = next(one for one in TARGETS if one.name == name)
    kind, way, offset = words.split()
    fault = Fault(kind, "up" if way == "up" else "down", int(offset))

    logging.basicConfig(level=logging.DEBUG)

    async def run() -> Tally:
        async with stand_ins():
            with tempfile.TemporaryDirectory() as directory:
                return await run_target(target, [fault], Path(directory))

    tally = asyncio.run(run())
    print(dict(tally.outcomes), f"{tally.longest:.2f} of the deadlines")
    _tell(tally.findings)
    sys.exit(bool(tally.findings))


def _tell(findings: Sequence[Finding]) -> None:
    for finding in findings[:200]:
        print(finding, file=sys.stderr)
        for line in finding.trace.splitlines()[-12:]:
            print(f"    {line}", file=sys.stderr)


def _merged(results: Sequence[dict[str, Tally]]) -> dict[str, Tally]:
    merged: dict[str, Tally] = {}
    for result in results:
        for name, tally in result.items():
            into = merged.setdefault(name, Tally())
            into.outcomes += tally.outcomes
            into.longest = max(into.longest, tally.longest)
            into.findings += tally.findings
    return merged


def _rows(tallies: dict[str, Tally]) -> list[Row]:
    rows = [Row("wires", name, tally.cases, "cases") for name, tally in tallies.items()]
    outcomes = sum((tally.outcomes for tally in tallies.values()), Counter[str]())
    rows += [Row("wires", outcome, count, "cases") for outcome, count in outcomes.most_common()]
    longest = max(tally.longest for tally in tallies.values())
    return [
        *rows,
        Row("wires", "all", outcomes.total(), "cases"),
        Row("wires", "longest against its deadlines", longest, ""),
        Row("wires", "findings", sum(len(tally.findings) for tally in tallies.values()), ""),
    ]


def main() -> None:
    parser = arguments(str(__doc__).splitlines()[0])
    parser.add_argument("--target", choices=[one.name for one in TARGETS], help="this exchange alone")
    parser.add_argument("--sample", type=int, default=0, help="so many cases of each exchange, not all")
    parser.add_argument("--seed", type=int, default=1, help="what a sample comes from")
    parser.add_argument("--jobs", type=int, default=2, help="processes side by side")
    parser.add_argument("--case", help="run this case again, as a finding is printed")
    options = parser.parse_args()
    if options.case is not None:
        _replay(options.case)
    if options.quick:
        options.sample = options.sample or _QUICK
        options.jobs = 1
    tallies = _merged(_run_jobs(options))
    emit(_rows(tallies), as_json=options.json)
    findings = [finding for tally in tallies.values() for finding in tally.findings]
    _tell(findings)
    sys.exit(bool(findings))


if __name__ == "__main__":
    main()
