"""Takes over all systems for a long time, with cuts: tasks, descriptors, threads and memory stay flat.

Run as ``python -m benchmarks.soak --minutes N``. One process keeps a session open over a camera of each
system and records one take after another; in every second take a server is cut off, muted, frozen or killed
while it records, or the take is cancelled. What the process holds is written down after each take, when all
cameras are back. The run ends with 1 where one of the four grew. See docs/reliability.md.
"""

import argparse
import asyncio
import gc
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from asynccam import Session
from asynccam.errors import AsynccamError
from asynccam.model.credentials import Credentials
from benchmarks._report import Row, arguments, emit
from benchmarks.chaos.servers import Server

SYSTEMS: Final = ("multicam", "mediamtx", "thorvision", "snapshot", "nanocam")
_DURATION: Final = 2.0
_CUT: Final = 1.0
"""Seconds that a server is out of reach."""
_BACK: Final = 60.0
"""Seconds in which all cameras have to be back after a cut."""
_LONGEST: Final = 300.0
"""Seconds that a take may need until it says the next thing: more than all its deadlines together."""
_QUICK_TAKES: Final = 4
_WARM: Final = 4
"""Takes before the first that is compared: caches and pools fill meanwhile."""
_MAY_GROW: Final = {"tasks": 1.0, "descriptors": 1.0, "threads": 1.0, "memory": 8.0}
_UNITS: Final = {"memory": "MiB"}
_CUTS: Final = ("cut", "mute", "freeze", "kill", "cancel")


@dataclass(frozen=True)
class Sample:
    """Holdings of the process after a take; memory in MiB.

    Attributes:
        take: Number of the take, from 0.
        outcome: Of the take.
    """

    take: int
    outcome: str
    tasks: int
    descriptors: int
    threads: int
    memory: float


# -- the process that is measured ------------------------------------------------------------------


async def _record(addresses: Sequence[str], token: str | None, directory: Path) -> None:
    """Record takes until standard input ends; every line of it begins one."""
    credentials = {"mediamtx": Credentials(token=token)} if token else {}
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    async with Session(poll_interval=1.0) as session:
        for address in addresses:
            await session.connect(address, credentials=credentials.get(address.partition(":")[0]))
        number = 0
        while line := await lines.readline():
            outcome = await _take(session, directory / f"take-{number}", cancelled=line == b"cancel\n")
            await _all_back(session, len(addresses))
            _say(asdict(await _sample(number, outcome)))
            number += 1


async def _all_back(session: Session, count: int) -> None:
    async with asyncio.timeout(_BACK):
        while len(session.cameras) < count or session.unavailable:  # noqa: ASYNC110 - as a program would look at it
            await asyncio.sleep(0.1)


async def _take(session: Session, directory: Path, *, cancelled: bool) -> str:
    work = asyncio.create_task(_run(session, directory))
    if cancelled:
        await asyncio.sleep(_DURATION)
        work.cancel()
    try:
        return await work
    except asyncio.CancelledError:
        return "cancelled"
    except AsynccamError as error:
        return type(error).__name__


async def _run(session: Session, directory: Path) -> str:
    cameras = list(session.cameras.values())
    async with session.new_take(cameras, directory) as take:
        await take.arm()
        await take.start(start_in=0.3)
        _say({"recording": True})
        await asyncio.sleep(_DURATION)
        await take.stop()
        await take.collect()
    return str(take.manifest.outcome)


async def _sample(number: int, outcome: str) -> Sample:
    """Return the least of each figure within a second: a poll that is under way holds a task and a socket."""
    looks = []
    for _ in range(10):
        gc.collect()
        looks.append(
            (
                len(asyncio.all_tasks()),
                len(list(Path("/proc/self/fd").iterdir())),
                len(list(Path("/proc/self/task").iterdir())),
                int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20),
            )
        )
        await asyncio.sleep(0.1)
    tasks, descriptors, threads, memory = map(min, zip(*looks, strict=True))
    return Sample(number, outcome, int(tasks), int(descriptors), int(threads), memory)


def _say(document: object) -> None:
    print(json.dumps(document), flush=True)


# -- the process that measures ---------------------------------------------------------------------


class _Soaked:
    """The process that records, told line by line what to do."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    def take(self, *, cancelled: bool) -> None:
        """Begin a take."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"cancel\n" if cancelled else b"go\n")

    async def heard(self) -> dict[str, object]:
        """Return the next thing that it says."""
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), _LONGEST)
        if not line:
            raise SystemExit("the process that records has ended; its words are above")
        document = json.loads(line)
        assert isinstance(document, dict)
        return document

    async def aclose(self) -> None:
        """End it; a leak shows in how it ends, too."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        if await asyncio.wait_for(self._process.wait(), _LONGEST):
            raise SystemExit(f"the process that records ended with {self._process.returncode}")


async def _started(servers: Sequence[Server], directory: Path) -> _Soaked:
    by_system = {server.system: server for server in servers}
    service = by_system.get("mediamtx")
    options = (
        {"ASYNCCAM_SOAK_TOKEN": service.token or "", "MEDIAMTX_HTTP_PORT": service.http_port}
        if service
        else {}
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.soak", "--record", str(directory)),
        *(server.address for server in servers),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=dict(os.environ) | {name: str(value) for name, value in options.items()},
    )
    return _Soaked(process)


async def soak(options: argparse.Namespace, directory: Path) -> list[Sample]:
    """Record takes for as long as the options say; returns what was held after each."""
    chance = random.Random(options.seed)
    samples: list[Sample] = []
    async with AsyncExitStack() as stack:
        servers = []
        for system in SYSTEMS[: 2 if options.quick else None]:
            server = Server(system, directory / system, f"soak-{os.getpid()}-{system}", mounts=False)
            stack.push_async_callback(server.aclose)
            await server.prepare()
            await server.start()
            servers.append(server)
        soaked = await _started(servers, directory / "takes")
        stack.push_async_callback(soaked.aclose)
        until = time.monotonic() + options.minutes * 60
        while time.monotonic() < until and (not options.quick or len(samples) < _QUICK_TAKES):
            cut = chance.choice(_CUTS) if len(samples) % 2 else ""
            sample = await _one(soaked, chance.choice(servers), cut)
            samples.append(sample)
            if not options.json:
                print(_line(sample, cut), flush=True)
    return samples


async def _one(soaked: _Soaked, server: Server, cut: str) -> Sample:
    soaked.take(cancelled=cut == "cancel")
    heard = await soaked.heard()
    if "recording" in heard:
        if cut not in ("", "cancel"):
            await _cut(server, cut)
        heard = await soaked.heard()
    return Sample(**heard)  # type: ignore[arg-type]  # as `_say` wrote it


async def _cut(server: Server, what: str) -> None:
    if what == "kill":
        await server.kill()
    else:
        server.act(what)
    await asyncio.sleep(_CUT)
    await server.restore()


def _line(sample: Sample, cut: str) -> str:
    return (
        f"take {sample.take:4}  {cut or '-':6}  {sample.outcome:10}  {sample.tasks:3} tasks  "
        f"{sample.descriptors:3} descriptors  {sample.threads:3} threads  {sample.memory:6.1f} MiB"
    )


def rows(samples: Sequence[Sample]) -> list[Row]:
    """Return the median of each figure in the first and the last third of a run, and by how much it grew."""
    kept = samples[min(_WARM, len(samples) // 4) :]
    third = max(len(kept) // 3, 1)
    found = [Row("soak", "takes", len(samples), "")]
    for name in _MAY_GROW:
        first = statistics.median(getattr(sample, name) for sample in kept[:third])
        last = statistics.median(getattr(sample, name) for sample in kept[-third:])
        unit = _UNITS.get(name, "")
        found += [
            Row("soak", f"{name}, first third", first, unit),
            Row("soak", f"{name}, last third", last, unit),
            Row("soak", f"{name}, growth", last - first, unit),
        ]
    return found


def grew(found: Sequence[Row]) -> list[str]:
    """Return the names of the figures that grew by more than they may."""
    growth = {row.case.removesuffix(", growth"): row.value for row in found if row.case.endswith(", growth")}
    return [name for name, most in _MAY_GROW.items() if growth[name] > most]


def main() -> None:
    parser = arguments(str(__doc__).splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0, help="how long to go on")
    parser.add_argument("--seed", type=int, default=1, help="what the cuts come from")
    parser.add_argument("--record", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("addresses", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.record is not None:
        asyncio.run(_record(options.addresses, os.environ.get("ASYNCCAM_SOAK_TOKEN"), options.record))
        return
    with tempfile.TemporaryDirectory(prefix="asynccam-soak-") as directory:
        samples = asyncio.run(soak(options, Path(directory)))
    found = rows(samples)
    emit(found, as_json=options.json)
    if grown := grew(found):
        sys.exit(f"grew: {', '.join(grown)}")


if __name__ == "__main__":
    main()
