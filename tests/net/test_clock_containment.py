"""The bound of a clock measurement contains the truth: against peers of known truth.

In volume in virtual time, and against processes in a few runs; ``python -m benchmarks.clocks`` does it all.
"""

import random
import statistics
from dataclasses import replace

import pytest

from asynccam.errors import TimeoutError
from asynccam.model.intervals import fit_line
from tests.support.time_peers import (
    COMBINATIONS,
    Origin,
    Outcome,
    Peer,
    VirtualClock,
    measure,
    measure_virtually,
    peers_running,
    runs_of,
)

VIRTUAL = {name: peer for name, peer in COMBINATIONS.items() if peer.protocol == "tcp"}


@pytest.mark.parametrize("samples", [1, 2, 8, 32])
@pytest.mark.parametrize("name", VIRTUAL)
async def test_truth_within_bound_in_every_run(name: str, samples: int) -> None:
    peer = VIRTUAL[name]
    clock = VirtualClock()
    lost = 0
    for one in runs_of(peer, 100, seed=samples):
        try:
            outcome = await measure_virtually(one, clock, samples=samples)
        except TimeoutError:  # Nothing came back, so nothing is claimed.
            lost += 1
            continue
        assert outcome.holds, outcome
        was_set = 0 < one.sets_after < samples
        assert outcome.measured.consistent is not was_set
        clock.elapsed += 0.777_123
    assert lost < (10 if samples == 1 else 1)


async def test_bound_shrinks_with_samples_at_50_ms_jitter() -> None:
    """The shortest of 8 round trips gives 11 ms, of 32 still 5.5 ms."""
    clock, medians = VirtualClock(), {}
    for samples in (8, 32, 64):
        outcomes = [
            await measure_virtually(one, clock, samples=samples)
            for one in runs_of(COMBINATIONS["tcp, jitter"], 100, seed=samples)
        ]
        assert all(one.holds for one in outcomes)
        medians[samples] = statistics.median(one.measured.bound for one in outcomes)
    assert medians[8] < 0.007
    assert medians[32] < 0.003
    assert medians[64] < medians[32]


@pytest.mark.parametrize("drift", [100e-6, -100e-6, 300e-6])
@pytest.mark.parametrize("network", ["quiet", "jitter", "wifi"])
async def test_line_through_measurements_over_ten_minutes(drift: float, network: str) -> None:
    chance = random.Random(1)
    for one in runs_of(Peer("tcp", drift=drift, network=network), 20, seed=2):
        clock, found = VirtualClock(), []
        for at in (0.0, 300.0, 600.0):
            clock.elapsed = max(clock.elapsed, at)
            found.append((await measure_virtually(one, clock)).measured)
        line = fit_line(found)
        assert line.consistent
        assert line.straight
        assert abs(line.rate - drift) <= line.rate_bound
        for elapsed in [chance.uniform(-100.0, 1200.0) for _ in range(20)]:
            truth = one.truth(elapsed)
            assert line.interval(clock.wall + elapsed).contains(truth)
        # One measurement alone: 59 ms off after ten minutes at 100 ppm, and its own bound says so.
        assert found[0].bound_at(clock.wall + 600) >= abs(found[0].offset - one.truth(600.0))


REAL = (
    "ntp, quiet",
    "ntp, jitter",
    "ntp, 1 ms floor",
    "ntp, 1 s round",
    "ntp, works 5 ms, 1 ms floor",
    "ntp, ticks of 1/64 s, not stated",
    "ntp, claims 0.8 ms of work that it did not do",
    "ntp, set by 3 s meanwhile",
    "tcp, quiet",
    "tcp, wifi",
    "tcp, 10 ms floor",
)


async def test_truth_within_bound_against_processes() -> None:
    origin = Origin.now()
    # Drift since the origin makes 1 s of it worth 0.1 ms.
    peers = [
        replace(one, drift=one.drift or 100e-6)
        for name in REAL
        for one in runs_of(COMBINATIONS[name], 1, seed=3)
    ]
    with peers_running(peers, origin) as ports:
        outcomes: dict[str, Outcome] = {}
        for name, peer, port in zip(REAL, peers, ports, strict=True):
            outcomes[name] = await measure(peer, port, origin, samples=16)
    assert [name for name, one in outcomes.items() if not one.holds] == []
    assert outcomes["ntp, quiet"].measured.consistent
    assert not outcomes["ntp, set by 3 s meanwhile"].measured.consistent
