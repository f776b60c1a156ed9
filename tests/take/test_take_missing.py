"""Takes of all cameras when somebody is away, and directories that do not go by order."""

from pathlib import Path
from typing import Any

import pytest

from asynccam import Session
from asynccam.errors import ConnectionError, UsageError
from asynccam.model.events import CameraStateChanged
from asynccam.model.info import CameraInfo
from asynccam.model.manifest import Manifest, Outcome
from asynccam.runtime.retry import Backoff
from asynccam.session import Fleet
from asynccam.take import Take
from tests.support.devices import free_port
from tests.support.multicam_device import running
from tests.support.scripted_camera import ScriptedCamera, refuse
from tests.support.waiting import eventually

PATIENT = 30.0
QUICK: dict[str, Any] = {"backoff": Backoff(initial=0.02, maximum=0.1), "interfaces": ["127.0.0.1"]}


async def test_take_of_all_names_missing_cameras(tmp_path: Path) -> None:
    nowhere = f"multicam://127.0.0.1:{free_port()}"
    async with running(tmp_path / "device") as device:
        fleet = Fleet.parse(
            f'[[camera]]\naddress = "multicam://127.0.0.1:{device.port}"\nlabel = "hill"\n'
            f'[[camera]]\naddress = "{nowhere}"\nlabel = "lake"\n'
        )
        async with Session.open(fleet=fleet, timeout=PATIENT, mdns=False, **QUICK) as session:
            take = await session.take(duration=0.1, start_in=0.1, directory=tmp_path)
            listed = await session.take(list(session.cameras.values()), duration=0.1, directory=tmp_path)
    (camera,) = take.manifest.cameras
    assert camera.outcome is Outcome.COMPLETE
    assert camera.directory == "hill"
    assert (take.manifest.outcome, take.ok) == (Outcome.INCOMPLETE, False)
    (missing,) = (await Manifest.load(take.directory)).missing
    assert (missing.label, missing.address, missing.id) == ("lake", nowhere, "")
    assert missing.reason
    assert listed.ok
    assert not listed.manifest.missing


async def test_take_missing_camera_by_its_id(tmp_path: Path) -> None:
    async with Session(poll_interval=0.02, **QUICK) as session:
        session.add(ScriptedCamera("good"))
        session.add(ScriptedCamera("bad", script={"status": refuse(ConnectionError("gone"))}))
        await eventually(lambda: "scripted://bad" in session.unavailable, PATIENT)
        take = await session.take(duration=0.02, directory=tmp_path, start_in=0)
    assert [(one.id, one.name, one.reason) for one in take.manifest.missing] == [
        ("scripted://bad", "bad", "gone")
    ]
    assert take.manifest.outcome is Outcome.INCOMPLETE


async def test_directories_of_cameras_of_one_name_do_not_go_by_order(tmp_path: Path) -> None:
    class Phone(ScriptedCamera):
        @property
        def info(self) -> CameraInfo:
            return CameraInfo(id=super().info.id, system="scripted", name="Phone")

    made = []
    for order in ("abc", "cab", "bca"):
        take = Take([Phone(name) for name in order], tmp_path, labels={"scripted://b": "door"})
        made.append({record.id: record.directory for record in take.manifest.cameras})
    assert made[0] == {"scripted://a": "Phone", "scripted://b": "door", "scripted://c": "Phone-2"}
    assert made[1:] == made[:1] * 2


@pytest.mark.parametrize("kind", ["CameraFound", 5, int, None])
async def test_subscribing_to_a_non_event_class_raises(kind: Any) -> None:
    heard: list[Any] = []
    async with Session() as session:
        with pytest.raises(UsageError, match="class of events"):
            session.subscribe(heard.append, kind)
        with pytest.raises(UsageError, match="class of events"):
            session.events.stream(kind)
        with pytest.raises(UsageError, match="class of events"):
            await session.wait_for(kind, timeout=PATIENT)
        session.subscribe(heard.append, CameraStateChanged)
        session.add(ScriptedCamera("one"))
