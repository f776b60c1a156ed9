"""``--fault``: switches of servers from words on a command line."""

from dataclasses import dataclass

import pytest

from asynccam.cli.serving import faults_of
from asynccam.errors import UsageError
from asynccam.systems.mediamtx.simulator.behavior import ServiceFaults
from asynccam.systems.multicam.device.commands import DeviceFaults
from asynccam.systems.thorvision.simulator.stream import ServerFaults
from tests.support.command import asynccam


@dataclass
class Faults:
    on: bool = False
    number: int | None = None
    names: frozenset[str] = frozenset()


def test_faults_of_switches_numbers_and_names() -> None:
    assert faults_of(Faults, None) == Faults()
    given = faults_of(Faults, ["on", "number=12", "names=a,b"])
    assert given == Faults(on=True, number=12, names=frozenset("ab"))


def test_faults_of_each_server() -> None:
    assert faults_of(DeviceFaults, ["refuse_start=no, never"]).refuse_start == "no, never"
    assert faults_of(ServerFaults, ["slow=0.5", "never_stream"]) == ServerFaults(slow=0.5, never_stream=True)
    service = faults_of(ServiceFaults, ["cut_answers=stop_recording", "cut_files_after=10"])
    assert (service.cut_answers, service.cut_files_after) == (frozenset({"stop_recording"}), 10)


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("colour=red", "unknown fault 'colour'; expected one of on, number, names"),
        ("number=many", "--fault number: Input should be a valid integer"),
        ("on=perhaps", "--fault on: Input should be a valid boolean"),
    ],
)
def test_faults_of_invalid_option(word: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        faults_of(Faults, [word])


@pytest.mark.parametrize(
    "server", [("serve", "multicam"), ("simulate", "mediamtx"), ("simulate", "thorvision")]
)
async def test_unknown_fault_lists_all_faults(server: tuple[str, str]) -> None:
    ended = await asynccam(*server, "--port", 0, "--fault", "colour")
    assert (ended.code, ended.out) == (2, "")
    assert "unknown fault 'colour'; expected one of " in ended.err
