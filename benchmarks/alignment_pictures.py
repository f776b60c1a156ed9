"""Time shown by the pictures that `align` points to, against the time it states, over all five systems.

    python -m benchmarks.alignment_pictures [--runs 5] [--quick] [--json]

Each run is one take over the simulators and servers of `asynccam demo`, as processes. Their pictures show the
time of day. At five instants of the common window the frame that `Alignment.at` names is decoded and read.
Printed for each system: the bound stated for a frame's own time, how far the times shown were from it, the
greatest share of the bound that was needed, and in how many pictures the time was within the bound of the
instant that was asked for. The code is cut to milliseconds. A server that was too busy when its pictures
began shows times that are too late, and puts that right later; what it takes back is subtracted before.
"""

import asyncio
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks._report import Row, arguments, emit
from tests.support.aligned_pictures import Seen, look, record


async def run(duration: float) -> list[Seen]:
    """One take and what its pictures show."""
    with tempfile.TemporaryDirectory() as directory:
        return await look(*await record(Path(directory), duration=duration))


def rows(system: str, found: Sequence[Seen]) -> list[Row]:
    """Return the rows of one system."""
    read = [one for one in found if one.shown is not None]
    result = [Row("alignment_pictures", f"{system}: pictures read", len(read) * 100 / len(found), "%")]
    if not read:
        return result
    held = sum(abs(one.error) <= one.bound for one in read)
    shares = [abs(one.frame_error) / one.frame_bound * 100 for one in read]
    errors = [one.frame_error * 1e3 for one in read]
    of = "alignment_pictures"
    return [
        *result,
        Row(of, f"{system}: within the bound", held * 100 / len(read), "%"),
        Row(of, f"{system}: bound of an instant", statistics.median(one.bound for one in read) * 1e3, "ms"),
        Row(
            of, f"{system}: bound of a frame", statistics.median(one.frame_bound for one in read) * 1e3, "ms"
        ),
        Row(of, f"{system}: shown minus stated, least", min(errors), "ms"),
        Row(of, f"{system}: shown minus stated, median", statistics.median(errors), "ms"),
        Row(of, f"{system}: shown minus stated, greatest", max(errors), "ms"),
        Row(of, f"{system}: greatest share needed", max(shares), "%"),
    ]


def main() -> None:
    parser = arguments("Whether the pictures that align points to show the time they should.")
    parser.add_argument("--runs", type=int, help="takes")
    options = parser.parse_args()
    runs = options.runs or (1 if options.quick else 5)
    found: dict[str, list[Seen]] = {}
    for _ in range(runs):
        for one in asyncio.run(run(2.0 if options.quick else 4.0)):
            found.setdefault(one.system, []).append(one)
    emit([row for system, seen in found.items() for row in rows(system, seen)], as_json=options.json)


if __name__ == "__main__":
    main()
