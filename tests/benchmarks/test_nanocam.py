"""The benchmark of media servers' files runs, compares each case with its rivals, and checks what arrived."""

import asyncio
import json
import sys
from pathlib import Path

from benchmarks.nanocam import COMMITTED

ROOT = Path(__file__).resolve().parents[2]
KEYS = frozenset({"benchmark", "case", "value", "unit", "ratio_to", "ratio"})


async def test_every_row_is_an_object_of_six_keys(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.nanocam", "--quick", "--json", "--directory", str(tmp_path)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, cwd=ROOT)
    output, _ = await process.communicate()
    assert process.returncode == 0
    rows = [json.loads(line) for line in output.splitlines()]
    assert {frozenset(row) for row in rows} == {KEYS}
    assert {row["benchmark"] for row in rows} == {"nanocam"}
    assert {row["unit"] for row in rows} == {"MB/s", "ms", "MiB"}
    speeds = {row["case"]: row["value"] for row in rows if row["unit"] == "MB/s"}
    for row in rows:
        if row["ratio_to"] is not None:
            rival = row["case"].partition(":")[0] + ": " + row["ratio_to"]
            assert abs(row["ratio"] - row["value"] / speeds[rival]) < 1e-9
    rivals = {row["ratio_to"] for row in rows if row["ratio_to"]}
    assert any(case.endswith(f"{COMMITTED}, uvloop") for case in speeds)
    assert any("maker" in rival for rival in rivals)
    assert any(rival.startswith("C ") for rival in rivals)
    assert list(tmp_path.iterdir()) == [], "nothing is left in the directory"
