"""Every parser of bytes from outside, with millions of broken cases: only errors of asynccam may come out.

Run as ``python -m benchmarks.fuzz --seconds N``. Cases are real files and traffic, changed at random from a
seed; the same seed gives each parser the same cases. A case that raises another error, or takes more than a
second, is kept in ``--keep`` and named, and the run ends with 1; so it does where memory grows.
``--target NAME --replay FILE`` runs a case that was kept. See docs/reliability.md.
"""

import argparse
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Final

from asynccam.errors import AsynccamError
from benchmarks._fuzz_targets import TARGETS, Target
from benchmarks._mutations import mutated
from benchmarks._report import Row, arguments, emit

if TYPE_CHECKING:
    from multiprocessing.queues import SimpleQueue

_SLOW: Final = 1.0
"""Seconds of the processor's time that no case may take."""
_HANGS: Final = 30
"""Seconds after which a case that does not end is a finding."""
_SLICE: Final = 0.25
"""Seconds that a target is tried before the next one's turn."""
_GROWTH: Final = 64.0
"""MiB that a process may grow by after its first rounds over all targets."""
_WARM: Final = 2
"""Rounds after which memory is compared."""
_QUICK_CASES: Final = 4000


class _HangError(Exception):
    """A case did not end."""


@dataclass(frozen=True)
class Finding:
    """A case that a parser does not stand.

    Attributes:
        target: The parser.
        case: Its bytes.
        what: What happened, on one line.
        trace: Where.
    """

    target: str
    case: bytes
    what: str
    trace: str = ""


@dataclass(frozen=True)
class Report:
    """Report of one process: cases, seconds of each target, findings, and growth in MiB."""

    cases: dict[str, int]
    seconds: dict[str, float]
    findings: list[Finding]
    growth: float


def run_case(target: Target, case: bytes, path: Path) -> Finding | None:
    """Parse one case; returns what is wrong with how that went, or None."""
    if target.on_disk:
        path.write_bytes(case)
    began = time.process_time()
    try:
        target.run(case, path)
    except AsynccamError:
        pass
    except _HangError:
        return Finding(target.name, case, f"did not end within {_HANGS} s", traceback.format_exc())
    except Exception as error:  # noqa: BLE001 - which errors come out is what is looked for
        return Finding(
            target.name, case, f"raised {type(error).__name__}: {error}"[:200], traceback.format_exc()
        )
    took = time.process_time() - began
    return Finding(target.name, case, f"took {took:.1f} s") if took > _SLOW else None


class Worker:
    """Tries all targets in turn, in a process of its own.

    Args:
        number: Of this worker; it takes every case whose number leaves it when divided by ``workers``.
        workers: How many there are.
        options: Of the command line.
        told: The number of cases that all workers did.
    """

    def __init__(
        self, number: int, workers: int, options: argparse.Namespace, told: "Synchronized[int]", stop: Event
    ) -> None:
        self._number, self._workers, self._options = number, workers, options
        self._told, self._stop = told, stop
        self._findings: list[Finding] = []
        self._seen: set[tuple[str, str]] = set()

    def run(self) -> Report:
        """Try targets until time is up or all cases are done."""
        signal.signal(signal.SIGALRM, _hang)
        targets = [one for one in TARGETS if self._options.target in (None, one.name)]
        seeds = {one.name: one.seeds() for one in targets}
        cases, seconds = dict.fromkeys(seeds, 0), dict.fromkeys(seeds, 0.0)
        rounds, before = 0, 0.0
        with tempfile.TemporaryDirectory(prefix="asynccam-fuzz-") as directory:
            while not self._stop.is_set():
                for target in targets:
                    began = time.monotonic()
                    cases[target.name] += self._slice(
                        target, seeds[target.name], cases[target.name], Path(directory)
                    )
                    seconds[target.name] += time.monotonic() - began
                    if self._stop.is_set():
                        break
                rounds += 1
                if rounds == _WARM:
                    before = _memory()
        growth = _memory() - before if rounds > _WARM else 0.0
        return Report(cases, seconds, self._findings, growth)

    def _slice(self, target: Target, seeds: Sequence[bytes], done: int, directory: Path) -> int:
        path = directory / f"case{target.on_disk}"
        until = time.monotonic() + _SLICE
        count = 0
        while time.monotonic() < until and not self._stop.is_set():
            number = self._number + (done + count) * self._workers
            chance = random.Random(f"{self._options.seed}/{target.name}/{number}")
            case = mutated(chance, seeds, text=target.text)
            signal.alarm(_HANGS)
            finding = run_case(target, case, path)
            signal.alarm(0)
            count += 1
            if finding is not None:
                self._add(finding)
        with self._told.get_lock():
            self._told.value += count
            if self._options.cases and self._told.value >= self._options.cases:
                self._stop.set()
        return count

    def _add(self, finding: Finding) -> None:
        # One case for each cause: the kind of error, and the last line of the trace that is in asynccam.
        lines = [line for line in finding.trace.splitlines() if f"{os.sep}asynccam{os.sep}" in line]
        cause = (finding.target, finding.what.partition(":")[0] + "".join(lines[-1:]))
        if cause not in self._seen:
            self._seen.add(cause)
            self._findings.append(finding)


def _hang(number: int, frame: FrameType | None) -> None:
    raise _HangError


def _memory() -> float:
    """MiB that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def _work(
    number: int,
    options: argparse.Namespace,
    told: "Synchronized[int]",
    stop: Event,
    reports: "SimpleQueue[Report]",
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.simplefilter("ignore")  # Pillow's, of broken EXIF
    reports.put(Worker(number, options.jobs, options, told, stop).run())


def fuzz(options: argparse.Namespace) -> list[Report]:
    """Run all workers to their ends."""
    context = multiprocessing.get_context("spawn")
    told, stop = context.Value("q", 0), context.Event()
    reports = context.SimpleQueue()
    workers = [
        context.Process(target=_work, args=(number, options, told, stop, reports), daemon=True)
        for number in range(options.jobs)
    ]
    for worker in workers:
        worker.start()
    with suppress(KeyboardInterrupt):
        stop.wait(options.seconds)
    stop.set()
    # A worker that a parser holds inside C code does not see its alarm.
    until = time.monotonic() + 2 * _HANGS
    results: list[Report] = []
    while len(results) < len(workers) and time.monotonic() < until:
        if reports.empty():
            if not any(worker.is_alive() for worker in workers):
                break
            time.sleep(0.05)
        else:
            results.append(reports.get())
    if len(results) < len(workers):
        for worker in workers:
            worker.kill()
        sys.exit("a worker died or hangs inside a parser")
    return results


def _rows(reports: Sequence[Report]) -> list[Row]:
    rows = []
    for target in TARGETS:
        cases = sum(report.cases.get(target.name, 0) for report in reports)
        if cases:
            rows.append(Row("fuzz", target.name, cases, "cases"))
    total = sum(row.value for row in rows)
    seconds = sum(sum(report.seconds.values()) for report in reports)
    findings = sum(len(report.findings) for report in reports)
    return [
        *rows,
        Row("fuzz", "all", total, "cases"),
        Row("fuzz", "a second of a process", total / seconds if seconds else 0.0, "cases"),
        Row("fuzz", "findings", findings, ""),
        Row("fuzz", "most growth of a process", max(report.growth for report in reports), "MiB"),
    ]


def _keep(findings: Sequence[Finding], directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for number, finding in enumerate(findings):
        file = directory / f"{finding.target}-{number}"
        file.write_bytes(finding.case)
        print(f"{finding.target}: {finding.what}\n  kept as {file}", file=sys.stderr)
        for line in finding.trace.splitlines()[-9:]:
            print(f"  {line}", file=sys.stderr)


def _replay(options: argparse.Namespace) -> None:
    target = next(one for one in TARGETS if one.name == options.target)
    case: Path = options.replay
    with tempfile.TemporaryDirectory() as directory:
        finding = run_case(target, case.read_bytes(), Path(directory) / f"case{target.on_disk}")
    if finding is not None:
        sys.exit(f"{finding.what}\n{finding.trace}")


def main() -> None:
    parser = arguments(str(__doc__).splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to go on")
    parser.add_argument("--cases", type=int, default=0, help="end after so many cases, if that is sooner")
    parser.add_argument("--seed", type=int, default=1, help="what the cases come from")
    parser.add_argument("--jobs", type=int, default=2, help="processes side by side")
    parser.add_argument("--target", choices=[one.name for one in TARGETS], help="this parser alone")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"), help="where findings are kept")
    parser.add_argument("--replay", type=Path, help="run this case of --target and end")
    options = parser.parse_args()
    if options.replay is not None:
        _replay(options)
        return
    if options.quick:
        options.cases, options.jobs = options.cases or _QUICK_CASES, 1
    reports = fuzz(options)
    emit(_rows(reports), as_json=options.json)
    findings = [finding for report in reports for finding in report.findings]
    _keep(findings, options.keep) if findings else None
    if findings or max(report.growth for report in reports) > _GROWTH:
        sys.exit(1)


if __name__ == "__main__":
    main()
