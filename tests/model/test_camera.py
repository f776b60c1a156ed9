"""The common face of cameras, and the values it speaks in."""

import dataclasses
import inspect
import time
from collections.abc import Mapping
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest

from asynccam.errors import FeatureError
from asynccam.model import events, features, info
from asynccam.model.camera import Camera
from asynccam.model.events import CameraEvent, CameraFound, CameraLost, Event
from asynccam.model.features import FeatureKey, Files, Record, Snapshot
from asynccam.model.info import CameraInfo, CameraState, CameraStatus, LocalFile


class Picture:
    async def snapshot(self, directory: Path) -> LocalFile:
        return LocalFile(directory / "a.jpg", 3)


class PaperCamera(Camera):
    def __init__(self, **have: object) -> None:
        known: dict[str, FeatureKey[Any]] = {"record": Record, "snapshot": Snapshot, "files": Files}
        self._features = {known[name]: thing for name, thing in have.items()}

    @property
    def info(self) -> CameraInfo:
        return CameraInfo("multicam://Hill-1", "multicam", "Hill")

    @property
    def features(self) -> Mapping[FeatureKey[Any], object]:
        return self._features

    async def status(self) -> CameraStatus:
        return CameraStatus(CameraState.READY)

    async def aclose(self) -> None:
        pass


async def test_feature_is_returned_by_key() -> None:
    camera = PaperCamera(snapshot=Picture())
    assert camera.supports(Snapshot)
    assert (await camera.feature(Snapshot).snapshot(Path("d"))).path == Path("d/a.jpg")


def test_missing_feature_error_lists_existing_ones() -> None:
    camera = PaperCamera(snapshot=Picture(), files=object())
    assert not camera.supports(Record)
    with pytest.raises(FeatureError, match=r"multicam://Hill-1 has no feature 'record' .*: files, snapshot"):
        camera.feature(Record)
    with pytest.raises(FeatureError, match="it has: none"):
        PaperCamera().feature(Record)


def test_camera_repr_has_id() -> None:
    assert PaperCamera().id == "multicam://Hill-1"
    assert repr(PaperCamera()) == "<PaperCamera multicam://Hill-1>"


def test_incomplete_camera_class_cannot_be_instantiated() -> None:
    with pytest.raises(TypeError, match="abstract"):
        type("Half", (PaperCamera,), {"status": Camera.status})()


def test_feature_keys_are_told_apart_by_name() -> None:
    keys = [value for value in vars(features).values() if isinstance(value, FeatureKey)]
    assert len({key.name for key in keys}) == len(keys) >= 6
    assert FeatureKey[Any]("record") == Record


VALUES = [
    one
    for module in (events, features, info)
    for _, one in inspect.getmembers(module, inspect.isclass)
    if dataclasses.is_dataclass(one) and one.__module__ == module.__name__
]


@pytest.mark.parametrize("one", VALUES)
def test_values_are_frozen(one: type[Any]) -> None:
    value = one(**{field.name: None for field in dataclasses.fields(one)})
    name = dataclasses.fields(one)[0].name
    with pytest.raises(FrozenInstanceError):
        setattr(value, name, "changed")


@pytest.mark.parametrize("one", [one for one in VALUES if issubclass(one, Event)])
def test_events_take_names_only_and_know_their_time(one: type[Any]) -> None:
    assert all(field.kw_only for field in dataclasses.fields(one))
    needed = {
        field.name: None
        for field in dataclasses.fields(one)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }
    assert one(**needed).at == pytest.approx(time.time(), abs=60)


def test_events_of_cameras_carry_the_id() -> None:
    found = CameraFound(camera="multicam://Hill-1", info=PaperCamera().info)
    lost = CameraLost(camera="multicam://Hill-1", at=found.at)
    assert isinstance(found, CameraEvent)
    assert lost == CameraLost(camera="multicam://Hill-1", at=found.at)


def test_extra_data_is_read_only() -> None:
    extra = CameraInfo("a", "multicam", "a").extra
    assert extra == {}
    with pytest.raises(TypeError):
        extra["shared"] = 1  # type: ignore[index]
