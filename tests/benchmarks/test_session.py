"""The benchmark of a session works, and says what every benchmark says."""

import json
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[2]


def test_quick_run() -> None:
    command = [sys.executable, "-m", "benchmarks.session", "--quick", "--json"]
    run = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=55, check=True)
    cases = {row["case"]: row for row in map(json.loads, run.stdout.splitlines())}
    for on in ("", ", uvloop"):
        assert cases[f"memory of a camera, 20 of them{on}"]["unit"] == "KiB"
        assert cases[f"20 cameras found and held{on}"]["ratio"] > 0
        assert cases[f"20 cameras closed{on}"]["value"] > 0
    for what in ("deliveries to 10 subscribers", "latency at 10,000 events/s, 99 %"):
        for name in ("asynccam, callbacks", "asynccam, iterators"):
            assert cases[f"{what}: {name}"]["ratio_to"] == "asyncio.Queue"
            assert cases[f"{what}: {name}"]["value"] > 0
