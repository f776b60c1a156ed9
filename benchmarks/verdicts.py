"""How many verdicts on the files of the corpus are what ffprobe decodes, and every one that is not.

Run as ``python -m benchmarks.verdicts``. The corpus is that of the tests: good files of ffmpeg and
GStreamer, and what cuts, zeros, garbage and losses make of them. See docs/recording.md.
"""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Final

from benchmarks._report import Row, arguments
from tests.support.media_corpus.corpus import cases_of
from tests.support.media_corpus.expectations import Case, agrees, difference
from tests.support.media_corpus.recipes import BASES, Recipe

_QUICK: Final = ("h264b.plain.mp4", "h264b-aac.gst.mkv", "still.jpg")


async def _cases(recipes: Sequence[Recipe]) -> list[Case]:
    return [case for recipe in recipes for case in await cases_of(recipe)]


def _rows(cases: Sequence[Case]) -> list[Row]:
    """Files that agree, that differ for each documented reason, and that are judged wrongly."""
    counts = {"agree with ffprobe": 0, "judged wrongly": 0}
    for case in cases:
        kind = None if agrees(case) else difference(case)
        name = "agree with ffprobe" if agrees(case) else kind.name if kind else "judged wrongly"
        counts[name] = counts.get(name, 0) + 1
    return [Row("verdicts", name, count, "files") for name, count in counts.items()]


def _print_differences(cases: Sequence[Case]) -> None:
    groups: dict[str, list[Case]] = {}
    for case in cases:
        if not agrees(case):
            kind = difference(case)
            groups.setdefault(f"{kind.name}: {kind.why}" if kind else "Judged wrongly", []).append(case)
    for title, group in groups.items():
        print(f"\n{title}")
        for case in group:
            print(f"  {case}")


def main() -> None:
    options = arguments(str(__doc__).splitlines()[0]).parse_args()
    recipes = [recipe for recipe in BASES if not options.quick or recipe.name in _QUICK]
    cases = asyncio.run(_cases(recipes))
    rows = _rows(cases)
    if options.json:
        for row in rows:
            print(json.dumps(asdict(row)))
        return
    agreeing = next(row for row in rows if row.case == "agree with ffprobe")
    print(f"{agreeing.value:.0f} of {len(cases)} files agree with ffprobe")
    _print_differences(cases)


if __name__ == "__main__":
    main()
