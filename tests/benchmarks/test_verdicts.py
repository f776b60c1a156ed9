"""The comparison with ffprobe works, and says what every benchmark says."""

import json
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "benchmarks.verdicts", "--quick"]


def test_quick_run() -> None:
    run = subprocess.run(
        [*COMMAND, "--json"], cwd=PROJECT, capture_output=True, text=True, timeout=50, check=True
    )
    rows = {row["case"]: row for row in map(json.loads, run.stdout.splitlines())}
    assert {row["unit"] for row in rows.values()} == {"files"}
    assert rows["agree with ffprobe"]["value"] > 20
    assert rows["judged wrongly"]["value"] == 0


def test_differing_files_are_named() -> None:
    run = subprocess.run(COMMAND, cwd=PROJECT, capture_output=True, text=True, timeout=50, check=True)
    first, *rest = run.stdout.splitlines()
    agreeing, of, everything, *words = first.split()
    assert (of, words) == ("of", ["files", "agree", "with", "ffprobe"])
    assert len([line for line in rest if line.startswith("  ")]) == int(everything) - int(agreeing)
