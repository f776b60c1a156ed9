"""The benchmark of recordings works, and says what every benchmark says."""

import json
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[2]


def test_quick_run() -> None:
    command = [sys.executable, "-m", "benchmarks.recording", "--quick", "--json"]
    run = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=55, check=True)
    rows = [json.loads(line) for line in run.stdout.splitlines()]
    assert all(list(row) == ["benchmark", "case", "value", "unit", "ratio_to", "ratio"] for row in rows)
    cases = {row["case"]: row for row in rows}
    assert cases["10 recorders, files complete"]["value"] == 10
    for case in ("call to first frame on disk", "CPU at 720p30", "CPU at 1080p60"):
        ours = cases[f"{case}, asynccam"]
        assert ours["ratio_to"] == "by hand"
        assert cases[f"{case}, by hand"]["value"] > 0
        assert ours["ratio"] > 0
