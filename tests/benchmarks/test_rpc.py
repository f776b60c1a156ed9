"""The benchmark of JSON-RPC works, with its server in C and in Python."""

import pytest

from benchmarks._rpc_clients import CASES
from tests.support.benchmark_runs import needs_compiler, quick_rows


@pytest.mark.parametrize("compiler", [pytest.param(True, marks=needs_compiler), False])
async def test_quick_run(*, compiler: bool) -> None:
    rows = await quick_rows("rpc", compiler=compiler)
    cases = [*CASES, "asynccam, uvloop", "vendor's SDK, uvloop"]
    for what in ("calls with 100 in flight", "round trip, median", "notifications to a callback"):
        for case in cases:
            row = rows[f"{what}: {case}"]
            assert row["value"] > 0
            assert row["ratio_to"] == ("vendor's SDK, uvloop" if "uvloop" in case else "vendor's SDK")
