"""Shared parts of all benchmarks: cases that take turns, and one form of results.

Run one as ``python benchmarks/NAME.py``, with ``--quick`` for a short run that only shows that
everything works, and ``--json`` for one object a row.
"""

import argparse
import json
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Row:
    """One result.

    Attributes:
        benchmark: Which benchmark, ``download`` for example.
        case: What was measured.
        value: The median of the rounds, in ``unit``.
        unit: ``MB/s``, ``ms`` and the like.
        ratio_to: The case it is compared with, or None.
        ratio: ``value`` by the value of that case, or None.
    """

    benchmark: str
    case: str
    value: float
    unit: str
    ratio_to: str | None = None
    ratio: float | None = None


def arguments(description: str) -> argparse.ArgumentParser:
    """The options every benchmark has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", action="store_true", help="one JSON object a row")
    parser.add_argument("--quick", action="store_true", help="a short run that only shows that it works")
    return parser


def interleave(cases: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """Run every case once, then every case again: what slows the machine slows them all.

    Each round has an order of its own, the same in every run: in one order for all rounds, a case does up to
    a fifth better or worse for what always runs before it.
    """
    results: dict[str, list[T]] = {name: [] for name in cases}
    order = list(cases)
    chance = random.Random(1)
    for _ in range(rounds):
        chance.shuffle(order)
        for name in order:
            results[name].append(cases[name]())
    return results


def ratio_of_rounds(
    ours: Sequence[Mapping[str, float]], rival: Sequence[Mapping[str, float]], key: str
) -> float:
    """Return the median of how one did beside the other in the same round."""
    return statistics.median(mine[key] / theirs[key] for mine, theirs in zip(ours, rival, strict=True))


def emit(rows: Sequence[Row], *, as_json: bool) -> None:
    """Print the results, as a table or as one JSON object a row."""
    if as_json:
        for row in rows:
            print(json.dumps(asdict(row)))
        return
    width = max(len(row.case) for row in rows)
    name = None
    for row in rows:
        if row.benchmark != name:
            name = row.benchmark
            print(f"{name}\n{'-' * len(name)}")
        ratio = "" if row.ratio is None else f"  {row.ratio:7.2f} x {row.ratio_to}"
        print(f"{row.case:<{width}}  {_number(row.value):>10} {row.unit:<5}{ratio}".rstrip())


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
