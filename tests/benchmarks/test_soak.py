"""The long run of takes works in short, and finds what grows."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.soak import Sample, grew, rows

PROJECT = Path(__file__).parents[2]


@pytest.mark.timeout(180)
def test_quick_run() -> None:
    command = [sys.executable, "-m", "benchmarks.soak", "--quick", "--json"]
    run = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=170, check=False)
    assert run.returncode == 0, run.stderr
    found = {row["case"]: row["value"] for row in map(json.loads, run.stdout.splitlines())}
    assert found["takes"] == 4
    assert found["tasks, last third"] > 0
    assert found["memory, last third"] > 1


@pytest.mark.parametrize("name", ["tasks", "descriptors", "threads", "memory"])
def test_growth_is_reported(name: str) -> None:
    flat = {"tasks": 4, "descriptors": 11, "threads": 6, "memory": 70.0}
    samples = [
        Sample(number, "complete", **(flat | {name: flat[name] + number}))  # type: ignore[arg-type]
        for number in range(30)
    ]
    assert grew(rows(samples)) == [name]
    assert grew(rows([Sample(number, "complete", 4, 11, 6, 70.0) for number in range(30)])) == []
