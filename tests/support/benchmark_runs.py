"""Quick runs of benchmarks: what they print, and no word about how fast."""

import asyncio
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).parents[2]
KEYS = ["benchmark", "case", "value", "unit", "ratio_to", "ratio"]

needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="builds C programs, and there is no C compiler"
)


async def printed(module: str, *options: str, compiler: bool = True) -> tuple[str, str]:
    """Return what a benchmark prints, on both outputs; ``compiler`` is False for a run that finds none."""
    environment = os.environ if compiler else {**os.environ, "PATH": os.devnull}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, *options),
        cwd=PROJECT,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        output, complaints = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, complaints.decode()
    return output.decode(), complaints.decode()


async def quick_rows(module: str, *options: str, compiler: bool = True) -> dict[str, dict[str, Any]]:
    """Return the rows of a quick run by their cases, each of which has the six keys."""
    output, _ = await printed(f"benchmarks.{module}", "--quick", "--json", *options, compiler=compiler)
    rows = [json.loads(line) for line in output.splitlines()]
    assert all(list(row) == KEYS for row in rows)
    assert len({(row["benchmark"], row["case"], row["ratio_to"]) for row in rows}) == len(rows)
    return {row["case"]: row for row in rows}
