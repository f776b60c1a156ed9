"""The benchmark of clocks works, says what every benchmark says, and finds every bound to hold."""

import json
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[2]


def test_quick_run() -> None:
    command = [
        sys.executable,
        "-m",
        "benchmarks.clocks",
        "--quick",
        "--runs",
        "1",
        "--only",
        "1 ms",
        "--json",
    ]
    run = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=50, check=True)
    rows = [json.loads(line) for line in run.stdout.splitlines()]
    assert all(list(row) == ["benchmark", "case", "value", "unit", "ratio_to", "ratio"] for row in rows)
    cases = {row["case"]: row for row in rows}
    held = [row["value"] for case, row in cases.items() if case.endswith("bound held")]
    assert held == [100] * len(held)
    assert {"ntp, 1 ms floor: bound held", "tcp, 1 ms round: bound held"} <= set(cases)
    for way in ("in turns", "not in turns"):
        row = cases[f"20 devices at once, {way}: median bound"]
        assert row["value"] > 0
        assert (row["unit"], row["ratio_to"]) == ("ms", "1 device")
