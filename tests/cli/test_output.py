"""JSON for machines: what becomes of the library's values, and where each word goes."""

import json
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from asynccam.cli.output import Output
from asynccam.errors import DeviceError
from asynccam.model.info import CameraInfo, CameraState, CameraStatus, MediaFile
from asynccam.model.manifest import Moment
from asynccam.systems.multicam.models import UploadItem


def said(value: object, capsys: pytest.CaptureFixture[str]) -> Any:
    Output(json=True).json_document({"value": value})
    return json.loads(capsys.readouterr().out)["value"]


def test_json_of_dataclasses(capsys: pytest.CaptureFixture[str]) -> None:
    info = CameraInfo(id="multicam://a", system="multicam", name="a", extra=MappingProxyType({"x": (1, 2)}))
    assert said(info, capsys) == {
        "id": "multicam://a",
        "system": "multicam",
        "name": "a",
        "serial": "",
        "address": "",
        "model": "",
        "identity": {},
        "extra": {"x": [1, 2]},
    }


def test_json_of_enums_paths_and_models(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(CameraStatus(CameraState.READY), capsys)["state"] == "ready"
    assert said(MediaFile("a.mp4", path=Path("here/a.mp4")), capsys)["path"] == str(Path("here/a.mp4"))
    assert said(Moment.of(0.0), capsys) == {"unix": 0.0, "utc": "1970-01-01T00:00:00.000Z"}
    assert said({"name": b"caf\xe9", "size": float("nan")}, capsys) == {"name": "caf\\xe9", "size": None}


def test_json_hides_hidden_fields(capsys: pytest.CaptureFixture[str]) -> None:
    item = UploadItem(fileName="a", status="QUEUED", uploadUrl="https://bucket/x?Signature=S3CRET")
    extra = MappingProxyType({"uploads": (item,)})
    status = CameraStatus(CameraState.READY, extra=extra)
    shown = said(status, capsys)
    assert shown["extra"]["uploads"][0]["fileName"] == "a"
    assert "S3CRET" not in json.dumps(shown)


def test_json_document_is_all_of_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output(json=True)
    output.print("a table")
    output.print_note("a note")
    with output.show_wait("waiting", 1.0), output.show_transfer("a.mp4") as progress:
        progress(1, 2)
    output.json_document({"name": "Köln\x1b[31m"})
    said = capsys.readouterr()
    assert json.loads(said.out) == {"name": "Köln\x1b[31m"}
    assert "\x1b" not in said.out
    assert said.err == ""


def test_json_line_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output(json=True)
    output.json_line({"event": "one\ntwo"})
    output.json_line({"event": "three"})
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line) for line in lines] == [{"event": "one\ntwo"}, {"event": "three"}]


def test_print_in_a_pipe_has_no_colour(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output()
    output.json_document({"a": 1})
    output.json_line({"a": 1})
    output.print("[plain]")
    assert capsys.readouterr().out == "[plain]\n"


def test_print_failure_with_and_without_verbose(
    capsys: pytest.CaptureFixture[str],
) -> None:
    try:
        raise DeviceError("it said no")
    except DeviceError as error:
        Output().print_failure("status", error)
        assert capsys.readouterr().err == "asynccam: status: it said no\n"
        Output(verbose=True).print_failure("status", error)
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert said.endswith("asynccam: status: it said no\n")
