"""Run all benchmarks, and print one table: what was measured, asynccam, its rival, and the bar.

    python -m benchmarks [--only NAME ...] [--quick] [--beside DIRECTORY] [--json] [--save FILE]
    python -m benchmarks --read FILE [--markdown PAGE ...]

``--beside`` names a checkout of another commit: each benchmark then runs with that one's asynccam too, and
the table has its ratios. ``--save`` keeps the rows with the machine and the commit; ``--read`` takes them
from such a file instead of measuring, and ``--markdown`` writes their table into pages that have its marks.
A benchmark that fails is reported, the others go on, and the exit code is 1.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Final

from benchmarks._loops import ASYNCIO, CHOICE
from benchmarks._report import Row, arguments, emit
from benchmarks._results import Results, found, machine, markdown, put_between_marks, table

PROJECT: Final = Path(__file__).resolve().parents[1]
ALL: Final = (
    "client",
    "rpc",
    "deflate",
    "http",
    "download",
    "nanocam",
    "takes",
    "start_skew",
    "idle",
    "session",
    "metadata",
    "recording",
    "imports",
)
"""Benchmarks with a rival or a bar; the programs that look for failures are not among them."""


def measure(
    name: str, *, quick: bool, package: Path | None = None, loops: str | None = None
) -> list[Row] | None:
    """Run one benchmark; None, with its words on stderr, if it fails.

    Args:
        name: Which.
        quick: A short run that only shows that everything works.
        package: Directory of another ``asynccam`` to measure with these benchmarks.
        loops: The event loops, with commas between; by default all.
    """
    command = [sys.executable, "-m", f"benchmarks.{name}", "--json", *(["--quick"] if quick else [])]
    environment = dict(os.environ)
    if package is not None:
        # The other package first, and no directory that Python puts before it by itself.
        environment |= {"PYTHONPATH": f"{package}{os.pathsep}{PROJECT}", "PYTHONSAFEPATH": "1"}
    if loops is not None:
        environment[CHOICE] = loops
    done = subprocess.run(
        command, cwd=PROJECT, env=environment, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        print(f"benchmarks.{name} ended with {done.returncode}", file=sys.stderr)
        return None
    return [Row(**json.loads(line)) for line in done.stdout.splitlines()]


@contextmanager
def _package_of(checkout: Path) -> Iterator[Path]:
    """A directory with that checkout's ``asynccam`` and nothing else."""
    with tempfile.TemporaryDirectory(prefix="asynccam-beside-") as directory:
        Path(directory, "asynccam").symlink_to((checkout / "asynccam").resolve())
        yield Path(directory)


def run(names: Sequence[str], *, quick: bool, beside: Path | None) -> tuple[Results, bool]:
    """Run benchmarks one after another; the results, and whether all of them worked."""
    rows: list[Row] = []
    before: list[Row] = []
    failed = False
    for name in names:
        print(f"benchmarks.{name}", file=sys.stderr, flush=True)
        if beside is not None:
            with _package_of(beside) as package:
                # Under uvloop, earlier commits may not connect at all.
                old = measure(name, quick=quick, package=package) or measure(
                    name, quick=quick, package=package, loops=ASYNCIO
                )
            before += old or []
        new = measure(name, quick=quick)
        rows += new or []
        failed = failed or new is None
    commit = _commit(PROJECT)
    return Results(
        machine(), commit, tuple(rows), _commit(beside) if beside else "", tuple(before)
    ), not failed


def _commit(checkout: Path) -> str:
    command = ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _options() -> argparse.Namespace:
    parser = arguments(str(__doc__).splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=ALL, default=ALL, help=", ".join(ALL))
    parser.add_argument("--beside", type=Path, metavar="DIRECTORY", help="a checkout of another commit")
    parser.add_argument("--save", type=Path, metavar="FILE", help="keep the rows, the machine and the commit")
    parser.add_argument("--read", type=Path, metavar="FILE", help="take saved rows instead of measuring")
    parser.add_argument(
        "--markdown",
        type=Path,
        nargs="+",
        metavar="PAGE",
        default=(),
        help="write the table into these pages",
    )
    return parser.parse_args()


def main() -> int:
    """Measure, print, and return the exit code."""
    options = _options()
    if options.read is not None:
        results, worked = Results.load(options.read), True
    else:
        results, worked = run(options.only, quick=options.quick, beside=options.beside)
    if options.save is not None:
        results.save(options.save)
    for page in options.markdown:
        page.write_text(put_between_marks(page.read_text(), markdown(results)))
    if options.json:
        for row in results.rows:
            print(json.dumps(asdict(row)))
    elif not options.markdown:
        emit(results.rows, as_json=False)
        print(f"\n{table(found(results))}")
    return 0 if worked else 1


if __name__ == "__main__":
    sys.exit(main())
