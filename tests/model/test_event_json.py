"""Every event there is, of every system, becomes complete JSON; and the docs name each of them."""

import dataclasses
import importlib
import json
import pkgutil
import sys
import types
import typing
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import asynccam
from asynccam.errors import BusyError, DeviceError
from asynccam.model.event_json import event_document, plain
from asynccam.model.events import CameraFailed, Event, FileArrived
from asynccam.model.info import CameraInfo, LocalFile
from asynccam.net.reconnecting import ConnectionState, ConnectionStateChanged
from asynccam.systems.multicam.models import UploadItem
from asynccam.systems.thorvision import CameraAdded, simulated_camera

DOCS = Path(__file__).parents[2] / "docs/events.md"


def every_event() -> list[type[Event]]:
    for module in pkgutil.walk_packages(asynccam.__path__, "asynccam."):
        if module.name.rpartition(".")[2].endswith("events"):
            importlib.import_module(module.name)

    def below(kind: type[Event]) -> list[type[Event]]:
        return [one for sub in kind.__subclasses__() for one in (sub, *below(sub))]

    # A dataclass with slots is made from a class that is left behind among the subclasses.
    ours = [
        kind for kind in set(below(Event)) if vars(sys.modules[kind.__module__]).get(kind.__name__) is kind
    ]
    ours = [kind for kind in ours if kind.__module__.startswith("asynccam.")]
    return sorted(ours, key=lambda kind: f"{kind.__module__}.{kind.__qualname__}")


def example(kind: Any, name: str = "x") -> Any:
    """A value of an annotated type, made of nothing but the type."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return example(next(one for one in arguments if one is not type(None)), name)
    if origin is typing.Literal:
        return arguments[0]
    if origin is tuple or kind is tuple:
        return (example(arguments[0], name),) if arguments else ()
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {"a": [1, {2}]}
    if kind in (str, int, float, bool):
        return {str: name, int: 7, float: 1.5, bool: True}[kind]
    if kind is Any:
        return {"deep": [Path("/tmp/x"), float("nan")]}
    if kind is Path:
        return Path("/tmp/x")
    if isinstance(kind, type) and issubclass(kind, BaseException):
        return DeviceError("refused\nindeed", status="error")
    if isinstance(kind, type) and issubclass(kind, Enum):
        return next(iter(kind))
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return kind.model_construct()
    hints = typing.get_type_hints(kind)
    return kind(
        **{item.name: example(hints[item.name], item.name) for item in dataclasses.fields(kind) if item.init}
    )


JSON_NAMES = {"MissedEvents": "Gap"}
"""Classes whose name in JSON is not the one in Python: JSON keeps the names that it had."""


@pytest.mark.parametrize("kind", every_event(), ids=lambda kind: f"{kind.__module__}.{kind.__qualname__}")
def test_event_document_is_complete(kind: type[Event]) -> None:
    event = example(kind)
    document = event_document(event)
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert document["event"] == JSON_NAMES.get(kind.__name__, kind.__name__) == document["kinds"][0]
    assert document["kinds"][-1] == "Event"
    assert document["subject"] == event.subject
    assert {item.name for item in dataclasses.fields(event)} <= document.keys()


@pytest.mark.parametrize("kind", every_event(), ids=lambda kind: f"{kind.__module__}.{kind.__qualname__}")
def test_docs_name_every_event_and_field(kind: type[Event]) -> None:
    rows = [line for line in DOCS.read_text().splitlines() if line.startswith(f"| `{kind.__name__}`")]
    bases = [base for base in kind.__mro__[1:] if issubclass(base, Event)]
    inherited = {item.name for base in bases for item in dataclasses.fields(base)}
    own = {item.name for item in dataclasses.fields(kind)} - inherited
    assert any(all(f"`{name}`" in row for name in own) for row in rows), f"{kind.__name__}: {own}"
    if kind.slot:
        assert any(f"`{kind.slot}`" in row for row in rows), kind.slot


def test_event_classes_are_found() -> None:
    assert len(every_event()) >= 25


def test_event_document_of_a_connection_has_the_names_that_json_had() -> None:
    event = ConnectionStateChanged(
        service="mediamtx://h:8002", state=ConnectionState.READY, previous=ConnectionState.AUTHENTICATING
    )
    document = event_document(event)
    assert document["kinds"] == ["ConnectionStateChanged", "LinkStateChanged", "Event"]
    assert document["service"] == document["server"] == "mediamtx://h:8002" == event.server


def test_event_document_by_hand() -> None:
    file = LocalFile(Path("/tmp/a.mp4"), 4, "ff", "a.mp4", 0.5)
    assert event_document(FileArrived(at=1.0, camera="multicam://Hill", file=file)) == {
        "event": "FileArrived",
        "kinds": ["FileArrived", "CameraEvent", "Event"],
        "at": 1.0,
        "subject": "multicam://Hill",
        "camera": "multicam://Hill",
        "file": {
            "path": "/tmp/a.mp4",
            "size": 4,
            "sha256": "ff",
            "source": "a.mp4",
            "seconds": 0.5,
            "digest": "",
        },
    }


def test_error_document_has_class_and_retryable() -> None:
    failed = CameraFailed(camera="c", step="arm", error=BusyError("occupied\nby another"))
    assert event_document(failed)["error"] == {
        "error": "BusyError",
        "message": "occupied by another",
        "retryable": True,
    }
    assert plain(ValueError()) == {"error": "ValueError", "message": "ValueError", "retryable": False}


def test_event_of_one_system_lists_shared_kinds() -> None:
    device = simulated_camera(0)
    document = event_document(CameraAdded(camera="c", info=CameraInfo("c", "thorvision", "C"), device=device))
    assert document["kinds"] == ["CameraAdded", "CameraFound", "CameraEvent", "Event"]
    assert document["device"]["name"] == device.name


def test_values_that_json_has_no_word_for() -> None:
    assert plain([float("inf"), float("nan"), 1.5]) == [None, None, 1.5]
    assert plain({1: {2, 1}, "b": b"\xff", "o": object}) == {
        "1": [1, 2],
        "b": "\\xff",
        "o": "<class 'object'>",
    }


def test_credentials_of_an_upload_do_not_show() -> None:
    item = UploadItem.model_validate(
        {"fileName": "a", "fileSize": 1, "bytesUploaded": 0, "uploadProgress": 0, "uploadSpeed": 0,
         "status": "QUEUED", "uploadUrl": "https://bucket/x?X-Amz-Signature=S3CRET"}
    )  # fmt: skip
    assert "S3CRET" not in json.dumps(plain(item))
