"""The benchmark of flooding peers works, and every call comes to an end."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]


@pytest.mark.timeout(180)
def test_quick_run() -> None:
    command = [sys.executable, "-m", "benchmarks.flood", "--quick", "--json"]
    run = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=170, check=False)
    assert run.returncode == 0, run.stderr
    rows = [json.loads(line) for line in run.stdout.splitlines()]
    cases = {row["case"].partition(":")[0] for row in rows}
    assert {"ThorVision, a list without end", "MultiCam, heartbeats", "nanocam, BUSY"} <= cases
    heard = [
        row["case"]
        for row in rows
        if row["case"].startswith("MediaMTX, signed in:") and "heard" in row["case"]
    ]
    assert [case.rpartition(" heard, ")[2] for case in heard] == ["0 lost after"]
