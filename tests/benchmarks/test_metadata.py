"""The benchmark of metadata works, and says what every benchmark says."""

import json
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[2]


def test_quick_run() -> None:
    command = [sys.executable, "-m", "benchmarks.metadata", "--quick", "--json"]
    run = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=50, check=True)
    cases = {row["case"]: row for row in map(json.loads, run.stdout.splitlines())}
    assert cases["PyAV, packet by packet"]["ratio"] == 1
    for name in ("read_metadata", "iter_metadata"):
        assert cases[name]["value"] > 0
        assert cases[name]["ratio_to"] == "PyAV, packet by packet"
    assert cases["memory: iter_metadata, 2,000 frames"]["unit"] == "MiB"
