"""Bounds of clock measurements: how many hold, how small they are, and how much of them was needed.

    python -m benchmarks.clocks [--takes] [--runs 100] [--seed 1] [--only WORDS] [--quick] [--json]

Against peers of known truth in a process of their own (`tests.support.time_peers`): clocks that are off,
drift, show whole milliseconds or seconds, are set meanwhile; networks that are slow one way, jitter by 50 ms,
come in bursts. For each combination: in how many runs the bound contained the truth, the median bound of 32
samples, and the median and the greatest share of a bound that was needed. Then many devices at once, beside
one alone, with samples that take turns and without. It ends with an error if a bound did not hold.

With ``--takes``, whole takes instead, over devices whose first frame is known (`tests.support.known_takes`):
in how many runs the stated bound contained it (or nothing was stated), the bounds, how much of them was
needed, and in how many runs a contradiction was named.
"""

import asyncio
import contextlib
import resource
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from asynccam.model.intervals import fit_line
from asynccam.net.clock import MeasurementLimiter
from benchmarks._report import Row, arguments, emit
from tests.support.known_takes import COMBINATIONS as TAKES
from tests.support.known_takes import Judged, run_take, stage
from tests.support.time_devices import Device
from tests.support.time_peers import (
    COMBINATIONS,
    Origin,
    Outcome,
    Peer,
    VirtualClock,
    measure,
    measure_virtually,
    peers_running,
    runs_of,
)

TOGETHER = 20
"""Runs side by side where the network's delays, not the computer, decide."""
FEW_TOGETHER = 4
"""Runs side by side on a quiet network, where the computer decides. Their samples take turns."""
TAKES_TOGETHER = 6
"""Takes of one kind side by side, each over devices of its own."""


async def outcomes(
    peers: Sequence[Peer], ports: Sequence[int], origin: Origin, together: int
) -> list[Outcome]:
    """Measure every peer once, a few side by side."""
    places = asyncio.Semaphore(together)

    async def one(peer: Peer, port: int) -> Outcome:
        async with places:
            return await measure(peer, port, origin)

    return list(await asyncio.gather(*(one(peer, port) for peer, port in zip(peers, ports, strict=True))))


def combination(name: str, peer: Peer, runs: int, seed: int) -> list[Row]:
    """One combination's rows."""
    origin = Origin.now()
    peers = runs_of(peer, runs, seed)
    with peers_running(peers, origin) as ports:
        together = FEW_TOGETHER if peer.network == "quiet" else TOGETHER
        found = asyncio.run(outcomes(peers, ports, origin, together))
    return rows(name, found)


def rows(name: str, found: Sequence[Outcome]) -> list[Row]:
    """Return the rows of one combination."""
    shares = [one.needed * 100 for one in found]
    bounds = [one.measured.bound * 1e3 for one in found]
    return [
        Row("clocks", f"{name}: bound held", sum(one.holds for one in found) * 100 / len(found), "%"),
        Row("clocks", f"{name}: median bound", statistics.median(bounds), "ms"),
        Row("clocks", f"{name}: median share needed", statistics.median(shares), "%"),
        Row("clocks", f"{name}: greatest share needed", max(shares), "%"),
    ]


# -- lines over ten minutes, in virtual time ----------------------------------------------------------------


def lines(runs: int, seed: int) -> Iterator[Row]:
    """Three measurements over ten minutes, and the bound of the line at 20 times in between and after."""
    for network in ("quiet", "jitter", "wifi"):
        held, bounds, shares = 0, [], []
        for peer in runs_of(Peer("tcp", drift=100e-6, network=network), runs, seed):
            clock, found = VirtualClock(), []
            for at in (0.0, 300.0, 600.0):
                clock.elapsed = max(clock.elapsed, at)
                found.append(asyncio.run(measure_virtually(peer, clock)).measured)
            line = fit_line(found)
            at_times = [(line.interval(clock.wall + at), peer.truth(at)) for at in range(0, 800, 40)]
            held += all(interval.contains(truth) for interval, truth in at_times)
            bounds += [interval.bound for interval, _ in at_times]
            shares += [abs(truth - interval.middle) / interval.bound * 100 for interval, truth in at_times]
        name = f"line over 10 min at 100 ppm, {network}"
        yield Row("clocks", f"{name}: bound held", held * 100 / runs, "%")
        yield Row("clocks", f"{name}: median bound", statistics.median(bounds) * 1e3, "ms")
        yield Row("clocks", f"{name}: median share needed", statistics.median(shares), "%")
        yield Row("clocks", f"{name}: greatest share needed", max(shares), "%")


# -- many at once ------------------------------------------------------------------------------------------


def crowd(count: int, seed: int, samples: int) -> list[Row]:
    """The median bound of many devices measured at the same time, beside that of one."""
    origin = Origin.now()
    peers = runs_of(Peer("tcp"), count, seed)

    async def at_once(number: int, limiter: MeasurementLimiter | None) -> float:
        found = await asyncio.gather(
            *(
                measure(peer, port, origin, samples=samples, limiter=limiter)
                for peer, port in zip(peers[:number], ports, strict=False)
            )
        )
        if not all(one.holds for one in found):
            raise SystemExit(f"a bound did not hold among {number} devices")
        return statistics.median(one.measured.bound for one in found)

    with peers_running(peers, origin) as ports:
        alone = statistics.median(asyncio.run(at_once(1, None)) for _ in range(9))
        ways = {
            "in turns": asyncio.run(at_once(count, None)),
            "not in turns": asyncio.run(at_once(count, MeasurementLimiter(count, hold=60.0))),
        }
    result = [Row("clocks", "1 device: median bound", alone * 1e3, "ms", "1 device", 1.0)]
    for name, bound in ways.items():
        case = f"{count} devices at once, {name}: median bound"
        result.append(Row("clocks", case, bound * 1e3, "ms", "1 device", bound / alone))
    return result


def measurements(runs: int, seed: int, only: str, *, quick: bool) -> Iterator[Row]:
    """The rows of all that is measured without takes."""
    for name, peer in COMBINATIONS.items():
        if only in name and not (quick and peer.network != "quiet"):
            yield from combination(name, peer, runs, seed)
    yield from lines(runs, seed)
    for count in (20,) if quick else (20, 200):
        yield from crowd(count, seed, 8)


# -- whole takes ------------------------------------------------------------------------------------------


async def takes(kind: str, devices: Sequence[Device], seeds: Sequence[int]) -> list[list[Judged]]:
    """Takes over the same devices, one for each seed, some of them side by side."""

    async def some(mine: Sequence[int]) -> list[list[Judged]]:
        with stage(kind, devices) as staged, tempfile.TemporaryDirectory() as directory:
            return [await run_take(staged, Path(directory), seed) for seed in mine]

    shares = [seeds[number::TAKES_TOGETHER] for number in range(min(TAKES_TOGETHER, len(seeds)))]
    return [one for found in await asyncio.gather(*map(some, shares)) for one in found]


def take_rows(name: str, found: Sequence[Judged]) -> list[Row]:
    """Return the rows of one device in many takes."""
    known = [one for one in found if one.bound]
    for one in found:
        if not one.holds:
            print(f"{name}: {one}", file=sys.stderr)
    told = sum(bool(one.record.contradictions) for one in found)
    result = [
        Row("clocks", f"{name}: bound held", sum(one.holds for one in found) * 100 / len(found), "%"),
        Row("clocks", f"{name}: nothing stated", (len(found) - len(known)) * 100 / len(found), "%"),
        Row("clocks", f"{name}: contradictions named", told * 100 / len(found), "%"),
    ]
    if known:
        shares = [abs(one.error) / (one.bound or 1.0) * 100 for one in known]
        result += [
            Row(
                "clocks",
                f"{name}: median bound",
                statistics.median(one.bound or 0.0 for one in known) * 1e3,
                "ms",
            ),
            Row("clocks", f"{name}: median share needed", statistics.median(shares), "%"),
            Row("clocks", f"{name}: greatest share needed", max(shares), "%"),
        ]
    return result


def all_takes(runs: int, seed: int, only: str) -> Iterator[Row]:
    """The rows of every device, kind of take by kind of take."""
    for kind, every in TAKES.items():
        chosen = {name: device for name, device in every.items() if only in name}
        if chosen:
            found = asyncio.run(takes(kind, list(chosen.values()), range(seed, seed + runs)))
            for number, name in enumerate(chosen):
                yield from take_rows(f"{kind}: {name}", [one[number] for one in found])


def main() -> None:
    parser = arguments("Whether the bounds of clock measurements hold.")
    parser.add_argument("--runs", type=int, help="runs of each combination")
    parser.add_argument("--seed", type=int, default=1, help="of offsets and networks")
    parser.add_argument("--only", default="", help="combinations whose name has these words")
    parser.add_argument("--takes", action="store_true", help="whole takes instead")
    options = parser.parse_args()
    runs = options.runs or (2 if options.quick else 100)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4096)), hard))
    if options.takes:
        result = list(all_takes(runs, options.seed, options.only))
    else:
        result = list(measurements(runs, options.seed, options.only, quick=options.quick))
    with contextlib.suppress(BrokenPipeError):
        emit(result, as_json=options.json)
    missed = [row.case for row in result if row.case.endswith("held") and row.value < 100]
    if missed:
        raise SystemExit(f"not every bound held: {'; '.join(missed)}")


if __name__ == "__main__":
    main()
