"""A few rounds of chaos with a known seed: nothing is lost, and nothing is stated that is not so."""

import json
from collections import Counter

import pytest

from benchmarks.chaos.plan import FOR_GOOD, HOSTS, SYSTEMS, plan
from tests.support.benchmark_runs import printed


@pytest.mark.timeout(400)
async def test_chaos_rounds_have_no_violation() -> None:
    output, err = await printed("benchmarks.chaos", "--rounds", "2", "--seed", "7", "--jobs", "2", "--json")
    *reports, last = map(json.loads, output.splitlines())
    assert [report["violations"] for report in reports] == [[]] * 2, err
    assert sorted(str(report["number"]) for report in reports) == ["0", "1"]
    figures = last["figures"]
    assert isinstance(figures, dict)
    assert (figures["rounds"], figures["violations"]) == (2, 0)


def test_plan_depends_on_seed_and_round() -> None:
    many = [plan(1, number, namespaces=True) for number in range(400)]
    assert many == [plan(1, number, namespaces=True) for number in range(400)]
    assert many != [plan(2, number, namespaces=True) for number in range(400)]
    assert {system for one in many for system in one.systems} == set(SYSTEMS)
    assert {one.host for one in many} == {*HOSTS, "record"}
    done = Counter((act.what, act.target == "controller") for one in many for act in one.acts)
    for what in (*FOR_GOOD, "freeze", "sleep", "set clock", "fill disk"):
        assert done[what, True]
    for what in ("kill", "freeze", "cut", "mute", "unplug", "fill disk"):
        assert done[what, False]


def test_plan_without_network_namespaces() -> None:
    acts = [act for number in range(400) for act in plan(1, number, namespaces=False).acts]
    assert acts
    assert not {act.what for act in acts} & {"fill disk", "unplug"}
