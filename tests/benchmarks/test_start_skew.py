"""The benchmark of starts works, and says what every benchmark says."""

import json
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[2]


def test_quick_run() -> None:
    command = [sys.executable, "-m", "benchmarks.start_skew", "--quick", "--json"]
    run = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=50, check=True)
    rows = [json.loads(line) for line in run.stdout.splitlines()]
    assert all(list(row) == ["benchmark", "case", "value", "unit", "ratio_to", "ratio"] for row in rows)
    cases = {row["case"]: row for row in rows}
    for what in ("first to last write", "first to last arrival"):
        for way in ("armed", "vendor", "by hand", "armed, uvloop", "vendor, uvloop"):
            row = cases[f"20 devices, {what}, {way}"]
            assert row["value"] > 0
            rival = "vendor, uvloop" if way.endswith("uvloop") else "vendor"
            assert (row["benchmark"], row["unit"], row["ratio_to"]) == ("start_skew", "ms", rival)
        assert cases[f"20 devices, {what}, vendor"]["ratio"] == 1
