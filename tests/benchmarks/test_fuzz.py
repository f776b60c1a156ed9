"""The parsers stand broken input, in a short run of the fuzzer that is the same each time."""

import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from asynccam.errors import RemoteProtocolError
from benchmarks._fuzz_targets import TARGETS, Target, close_loop
from benchmarks._mutations import mutated
from benchmarks.fuzz import run_case

PROJECT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "benchmarks.fuzz"]
CASES = 150


@pytest.fixture(autouse=True)
def _closed_loop() -> Iterator[None]:
    yield
    close_loop()


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_targets_raise_only_asynccam_errors(target: Target, tmp_path: Path) -> None:
    seeds = target.seeds()
    assert seeds
    path = tmp_path / f"case{target.on_disk}"
    for number in range(CASES):
        case = mutated(random.Random(f"1/{target.name}/{number}"), seeds, text=target.text)
        finding = run_case(target, case, path)
        assert finding is None, f"{finding.what}\n{finding.trace}"


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_seeds_are_valid_input(target: Target, tmp_path: Path) -> None:
    for seed in target.seeds():
        path = tmp_path / f"case{target.on_disk}"
        path.write_bytes(seed)
        assert run_case(target, seed, path) is None


def test_foreign_error_is_a_finding(tmp_path: Path) -> None:
    def fails(data: bytes, path: Path) -> None:
        raise KeyError(data) if data == b"foreign" else RemoteProtocolError("own")

    target = Target("t", fails, lambda: [b"foreign"])
    assert run_case(target, b"own", tmp_path) is None
    finding = run_case(target, b"foreign", tmp_path)
    assert finding is not None
    assert finding.what.startswith("raised KeyError")
    assert "fails" in finding.trace


def test_quick_run_has_no_finding(tmp_path: Path) -> None:
    run = subprocess.run(
        [*COMMAND, "--quick", "--json", "--target", "sntp", "--keep", str(tmp_path / "keep")],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )
    rows = {row["case"]: row for row in map(json.loads, run.stdout.splitlines())}
    assert rows["sntp"]["value"] == rows["all"]["value"] >= 4000
    assert rows["findings"]["value"] == 0
    assert not (tmp_path / "keep").exists()


def test_saved_case_can_be_repeated(tmp_path: Path) -> None:
    case = tmp_path / "case"
    case.write_bytes(b"multicam://[")
    subprocess.run(
        [*COMMAND, "--target", "address", "--replay", str(case)], cwd=PROJECT, timeout=50, check=True
    )
