"""The benchmark of HTTP works, and says what every benchmark says."""

import json
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[2]


def test_quick_run() -> None:
    command = [sys.executable, "-m", "benchmarks.http", "--quick", "--json"]
    run = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=50, check=True)
    rows = {(row["benchmark"], row["case"]): row for row in map(json.loads, run.stdout.splitlines())}
    for words in ("one after the other", "50 at once"):
        assert rows["http client", f"bare aiohttp, {words}"]["ratio"] == 1
        for name in ("bare aiohttp, again", "asynccam", "requests.get", "requests.Session"):
            row = rows["http client", f"{name}, {words}"]
            assert row["value"] > 0
            assert (row["unit"], row["ratio_to"]) == ("/s", "bare aiohttp")
        row = rows["http client", f"asynccam, {words}, uvloop"]
        assert (row["value"] > 0, row["ratio_to"]) == (True, "bare aiohttp")
    for path in ("cameras", "a picture of 100 kB"):
        for name in ("maker's application", "asynccam", "asynccam, a connection each"):
            row = rows["http server", f"{name}, {path}, 50 at once"]
            assert row["value"] > 0
            assert (row["unit"], row["ratio_to"]) == ("/s", "maker's application")
