"""The benchmark of `CameraClient` works, and loses no notification at either side."""

from tests.support.benchmark_runs import needs_compiler, quick_rows

BOTH = ("CameraClient", "vendor's SDK")


@needs_compiler
async def test_quick_run() -> None:
    rows = await quick_rows("client")
    for loop in ("", ", uvloop"):
        for what in (
            "calls, 100 in flight",
            "one call, median",
            "lists of 50 cameras",
            "typed notifications, 16 cameras",
            "typed notifications, 100 cameras",
            "typed notifications, 500 cameras",
        ):
            for case in BOTH:
                row = rows[f"{what}: {case}{loop}"]
                assert row["value"] > 0
                assert row["ratio_to"] == f"vendor's SDK{loop}"
    assert {row["value"] for case, row in rows.items() if case.startswith("lost")} == {0}
