"""Another device at a known address, and two devices with one id."""

from pathlib import Path
from typing import Any

import pytest

from asynccam import Session
from asynccam.errors import UsageError
from asynccam.model.manifest import Outcome
from asynccam.runtime.backoff import Backoff
from tests.support.command import asynccam
from tests.support.devices import free_port
from tests.support.multicam_device import running
from tests.support.waiting import eventually

PATIENT = 30.0
QUICK: dict[str, Any] = {"backoff": Backoff(initial=0.02, maximum=0.1), "interfaces": ["127.0.0.1"]}


async def test_another_device_at_a_known_address_is_not_recorded_under_its_name(tmp_path: Path) -> None:
    port = free_port()
    async with Session() as session:
        async with running(tmp_path / "first", port=port, device_id="first"):
            camera = await session.connect(f"multicam://127.0.0.1:{port}")
        async with running(tmp_path / "second", port=port, device_id="second"):
            take = await session.take([camera], duration=0.1, start_in=0.1, directory=tmp_path)
    (record,) = take.manifest.cameras
    assert take.manifest.outcome is not Outcome.COMPLETE
    assert not record.files
    told = " ".join(problem.message for problem in record.errors)
    assert "'second'" in told
    assert "'first'" in told


async def test_two_living_devices_with_one_id_are_refused(tmp_path: Path) -> None:
    async with (
        running(tmp_path / "a", device_id="twin") as one,
        running(tmp_path / "b", device_id="twin") as other,
    ):
        there = [f"multicam://127.0.0.1:{device.port}" for device in (one, other)]
        async with Session() as session:
            await session.connect(there[0])
            with pytest.raises(UsageError, match="two devices answer as multicam://twin"):
                await session.connect(there[1])
            assert session.cameras["multicam://twin"].info.address == there[0]
        async with Session.open(*there, timeout=PATIENT, mdns=False, **QUICK) as session:
            await eventually(lambda: session.away, PATIENT)
            assert len(session.cameras) == 1
            (away,) = session.away.values()
            assert all(address in str(away.error) for address in there)


async def test_record_says_who_is_missing_before_it_begins(tmp_path: Path) -> None:
    nowhere = f"multicam://127.0.0.1:{free_port()}"
    async with running(tmp_path / "device") as device:
        there = f"multicam://127.0.0.1:{device.port}"
        line = (
            "record",
            there,
            nowhere,
            "--duration",
            0.2,
            "--start-in",
            0.2,
            "--to",
            tmp_path / "takes",
            "--json",
        )
        refused = await asynccam(*line)
        assert (refused.code, refused.out) == (3, "")
        assert not (tmp_path / "takes").exists()
        ended = await asynccam(*line, "--require", "any")
    assert ended.code == 8
    assert f"without {nowhere}" in ended.err
    manifest = ended.json()["manifest"]
    assert [one["address"] for one in manifest["missing"]] == [nowhere]
    assert manifest["outcome"] == "incomplete"
    nobody = await asynccam("record", nowhere, "--duration", 1, "--to", tmp_path / "none", "--require", "any")
    assert nobody.code != 0
    assert nowhere in nobody.err
