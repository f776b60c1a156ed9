"""The matrix of who is there: every system, however it was named, goes in every way and comes back.

Nothing is said of how soon: that is what ``python -m benchmarks.presence`` is for.
"""

import asyncio
import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from tests.support.cables import is_allowed
from tests.support.rows import SERVICES, SYSTEMS

PROJECT = Path(__file__).parents[2]
SINGLE = {(system, way) for system in SYSTEMS for way in ("single address", "fleet")}
SERVICE = {(system, "service address") for system in SERVICES}
FOUND = {("multicam", "discovery")}
NEVER_MET = {
    *((system, "single address, never met") for system in SYSTEMS),
    *((system, "service address, never met") for system in SERVICES),
}
ALL = SINGLE | SERVICE | FOUND | NEVER_MET
ANOTHER_PORT = {("multicam", "single address, never met")}


async def measured(*options: str) -> dict[str, set[tuple[str, str]]]:
    """The cells of a run that went and came back, by fault."""
    command = [sys.executable, "-m", "benchmarks.presence", "--json", "--poll-interval", "0.5", "--away", "1"]
    process = await asyncio.create_subprocess_exec(
        *command,
        *options,
        "--within",
        "60",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=PROJECT,
    )
    out, err = await process.communicate()
    cells = [json.loads(line) for line in out.splitlines()]
    assert process.returncode == 0, f"{[cell for cell in cells if not cell['kept']]} {err.decode()}"
    kept = defaultdict(set)
    for cell in cells:
        assert cell["kept"]
        kept[cell["fault"]].add((cell["system"], cell["named"]))
    return kept


@pytest.mark.timeout(400)
async def test_presence_by_cable() -> None:
    if not await asyncio.to_thread(is_allowed):
        pytest.skip("the kernel allows no network namespace here")
    assert await measured() == {
        "killed, restarted": ALL,
        "frozen": ALL,
        "unplugged here": ALL,
        "cut in silence": ALL,
        "killed, restarted elsewhere": ALL - ANOTHER_PORT,
    }


@pytest.mark.timeout(400)
async def test_presence_by_proxy() -> None:
    # The other faults are the same with and without a proxy, and are in the run with cables.
    cables = await asyncio.to_thread(is_allowed)
    faults = ["--faults", "cut in silence", "killed, restarted elsewhere"] if cables else []
    everywhere = {} if cables else {"killed, restarted": ALL, "frozen": ALL}
    assert await measured("--loopback", *faults) == {
        **everywhere,
        "cut in silence": ALL - FOUND,
        "killed, restarted elsewhere": FOUND,
    }
