"""Runs rounds side by side, tells of each, and counts. See the package."""

import argparse
import asyncio
import json
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from benchmarks.chaos.plan import plan
from benchmarks.chaos.world import namespaces, within

_ROUND_TIMEOUT: Final = 600.0


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Takes of real processes, of which any may be killed, frozen or cut."
    )
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--round", type=int, help="run this round alone, and keep its directories")
    parser.add_argument("--first", type=int, default=0, help="number of the first round")
    parser.add_argument("--jobs", type=int, default=2, help="rounds side by side")
    parser.add_argument("--keep", type=Path, help="keep the directories of rounds with violations here")
    parser.add_argument("--json", action="store_true", help="one JSON object a round")
    parser.add_argument("--plan", action="store_true", help="only tell what would be done")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one is not None:
        from benchmarks.chaos.round import Round

        chosen = plan(options.seed, options.round, namespaces=namespaces_here())
        report = asyncio.run(Round(chosen, options.one, namespaces=namespaces_here()).run())
        (options.one / "report.json").write_text(report.to_json())
        return
    numbers = (
        [options.round] if options.round is not None else range(options.first, options.first + options.rounds)
    )
    if options.plan:
        for number in numbers:
            print(json.dumps(asdict(plan(options.seed, number, namespaces=namespaces()))))
        return
    sys.exit(asyncio.run(Run(options, list(numbers)).run()))


def namespaces_here() -> bool:
    """Return whether this process was started in namespaces of its own, as the first of its processes."""
    return os.getpid() == 1


class Run:
    """Many rounds, some of them side by side.

    Args:
        options: Of the command line.
        numbers: Of the rounds.
    """

    def __init__(self, options: argparse.Namespace, numbers: list[int]) -> None:
        self._options = options
        self._numbers = numbers
        self._reports: list[dict[str, Any]] = []
        self._keep: Path | None = options.keep
        if options.round is not None and self._keep is None:
            self._keep = Path(tempfile.mkdtemp(prefix=f"chaos-{options.seed}-"))

    async def run(self) -> int:
        """Run them; the exit code."""
        began = time.monotonic()
        waiting = iter(self._numbers)

        async def worker() -> None:
            for number in waiting:
                self._tell(await self._one(number))

        try:
            await asyncio.gather(*(worker() for _ in range(max(self._options.jobs, 1))))
        finally:  # also of those that were done when it was interrupted
            code = self._figures(time.monotonic() - began)
        return code

    async def _one(self, number: int) -> dict[str, Any]:
        """One round in a process, and in namespaces, of its own."""
        place = Path(tempfile.mkdtemp(prefix=f"chaos-round-{number}-"))
        one = ["--one", str(place / "round"), "--seed", str(self._options.seed), "--round", str(number)]
        (place / "round").mkdir()
        process = await asyncio.create_subprocess_exec(
            *within([sys.executable, "-m", "benchmarks.chaos", *one]),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        said = b""
        try:
            said, _ = await asyncio.wait_for(process.communicate(), _ROUND_TIMEOUT)
        except TimeoutError:
            process.kill()
            await process.wait()
        except BaseException:
            process.kill()
            await process.wait()
            raise
        report: dict[str, Any]
        try:
            report = json.loads((place / "round" / "report.json").read_text())
        except OSError:
            chosen = plan(self._options.seed, number, namespaces=namespaces())
            words = f"the round itself failed: {said.decode(errors='replace')[-1500:]}"
            report = {
                "number": number,
                "systems": chosen.systems,
                "host": chosen.host,
                "acts": [],
                "kinds": [],
            }
            report |= {"outcome": [], "code": None, "took": 0.0, "violations": [words]}
        self._put_away(number, place, keep=bool(report["violations"]) or self._options.round is not None)
        return report

    def _put_away(self, number: int, place: Path, *, keep: bool) -> None:
        if keep and self._keep is not None:
            target = self._keep / f"round-{number}"
            shutil.rmtree(target, ignore_errors=True)
            shutil.move(str(place / "round"), target)
            print(f"  kept in {target}", file=sys.stderr)
        shutil.rmtree(place, ignore_errors=True)

    def _tell(self, report: dict[str, Any]) -> None:
        self._reports.append(report)
        if self._options.json:
            print(json.dumps(report), flush=True)
            return
        done = "; ".join(report["acts"]) or "nothing"
        outcome = " -> ".join(report["outcome"]) or "none"
        mark = "VIOLATION" if report["violations"] else "ok"
        print(
            f"round {report['number']} seed {self._options.seed} [{' '.join(report['systems'])}]"
            f" {report['host']}: {done}: {outcome}, code {report['code']}, {report['took']:.1f} s: {mark}",
            flush=True,
        )
        for line in report["violations"]:
            print(f"    {line}", flush=True)

    def _figures(self, took: float) -> int:
        kinds = Counter(kind for report in self._reports for kind in report["kinds"])
        outcomes = Counter((report["outcome"] or ["none"])[-1] for report in self._reports)
        hosts = Counter(report["host"] for report in self._reports)
        violations = sum(len(report["violations"]) for report in self._reports)
        wrong = sum(bool(report["violations"]) for report in self._reports)
        figures = {
            "rounds": len(self._reports),
            "seed": self._options.seed,
            "seconds": round(took, 1),
            "namespaces": namespaces(),
            "faults": sum(kinds.values()),
            "faults by kind": dict(kinds.most_common()),
            "hosts": dict(hosts.most_common()),
            "outcomes": dict(outcomes.most_common()),
            "rounds with violations": wrong,
            "violations": violations,
        }
        print(json.dumps({"figures": figures}) if self._options.json else json.dumps(figures, indent=2))
        return 1 if violations else 0


if __name__ == "__main__":
    main()
