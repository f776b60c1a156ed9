"""The benchmarks of takes and of idle sessions work with a compiler, and say so where there is none."""

import pytest

from tests.support.benchmark_runs import needs_compiler, printed, quick_rows


@needs_compiler
async def test_quick_run() -> None:
    rows = await quick_rows("takes")
    for step in ("open", "arm", "stop", "collect"):
        assert rows[f"10 cameras, {step}"]["unit"] == "ms"
        assert f"10 cameras, stall, {step}" in rows
    assert rows["10 cameras, longest stall of a take"]["value"] > 0
    assert rows["20 starts, not armed: asynccam"]["ratio_to"] == "vendor"
    assert rows["20 starts, not armed: vendor"]["ratio"] == 1


@needs_compiler
async def test_quick_run_of_an_idle_session() -> None:
    rows = await quick_rows("idle")
    assert rows["10 cameras, checked every 0.5 s"]["unit"] == "% of a core"


@pytest.mark.parametrize("module", ["takes", "idle"])
async def test_without_compiler(module: str) -> None:
    output, complaints = await printed(f"benchmarks.{module}", "--quick", "--json", compiler=False)
    assert output == ""
    assert complaints.startswith("no C compiler (cc, gcc, clang): ")
