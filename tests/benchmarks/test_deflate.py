"""The benchmark of compression works, and says what every benchmark says."""

import json
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[2]


def test_quick_run() -> None:
    command = [sys.executable, "-m", "benchmarks.deflate", "--quick", "--json"]
    run = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=50, check=True)
    rows = {row["case"]: row for row in map(json.loads, run.stdout.splitlines())}
    for what, unit in (("round trip, a pong", "us"), ("round trip, 50 cameras", "us")):
        assert rows[f"{what}, without deflate"]["ratio"] == 1
        row = rows[f"{what}, with deflate"]
        assert row["value"] > 0
        assert (row["benchmark"], row["unit"], row["ratio_to"]) == ("deflate", unit, "without deflate")
    assert rows["memory a connection, with deflate"]["unit"] == "KiB"
