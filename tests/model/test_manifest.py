"""The manifest as a file: what it promises to readers, and what it refuses to read."""

import json
from pathlib import Path

import pytest

from asynccam.errors import StorageError
from asynccam.model.manifest import Manifest, Moment, Outcome, manifest_schema, record_bytes
from asynccam.outside import clean_json

SCHEMA = Path(__file__).parents[2] / "docs" / "manifest.schema.json"
PAGE = Path(__file__).parents[2] / "docs" / "take.md"

# Written by hand, as a reader of the docs would expect it.
TEXT = b"""{
  "format": "asynccam-take", "version": 1, "take": "t", "phase": "done", "outcome": "complete",
  "created_at": {"unix": 1729000000.25, "utc": "2024-10-15T13:46:40.250Z"},
  "written_at": {"unix": 1729000010.0, "utc": "2024-10-15T13:46:50.000Z"},
  "cameras": [{"id": "multicam://A", "name": "A", "system": "multicam", "directory": "A",
               "files": [{"name": "v.mp4", "source": "device", "state": "arrived", "path": "A/v.mp4"}]}],
  "written by": "somebody later"
}"""


def test_manifest_written_by_hand_is_read() -> None:
    manifest = Manifest.from_bytes(TEXT)
    assert manifest.outcome is Outcome.COMPLETE
    assert manifest.created_at == Moment.of(1729000000.25)
    assert manifest.cameras[0].files[0].path == "A/v.mp4"


def test_unknown_fields_are_written_back() -> None:
    manifest = Manifest.from_bytes(TEXT)
    again = manifest.to_bytes()
    assert Manifest.from_bytes(again) == manifest
    assert json.loads(again)["written by"] == "somebody later"


@pytest.mark.parametrize("count", [0, 1, 5, 6, 7])
@pytest.mark.parametrize("odd", ["", '\n  "cameras": []', "\ud800\0"])
def test_manifest_in_parts_is_the_manifest(count: int, odd: str) -> None:
    manifest = Manifest.from_bytes(TEXT)
    manifest.cameras = [manifest.cameras[0].model_copy(update={"name": f"{odd}{n}"}) for n in range(count)]
    manifest.phase = odd
    parts = list(manifest.parts(3))
    assert len(parts) == (1 if count == 0 else 2 + -(-count // 3))
    assert b"".join(parts) == manifest.to_bytes() == record_bytes(manifest)


def test_manifest_with_small_clock_bounds_and_digests_is_written_at_once() -> None:
    manifest = Manifest.from_bytes(TEXT)
    manifest.cameras[0].first_frame_bound = 0.00004052700783185025
    manifest.cameras[0].files[0].sha256 = "12e3456789a" + "1234567890" * 3
    data = manifest.to_bytes()
    assert clean_json(data) is data


def test_times_are_kept_to_the_microsecond_and_shown_to_the_millisecond() -> None:
    moment = Moment.of(1729000000.123456)
    assert moment.utc == "2024-10-15T13:46:40.123Z"
    assert Moment.model_validate_json(moment.model_dump_json()).unix == 1729000000.123456
    assert Moment.maybe(None) is None


@pytest.mark.parametrize("absurd", [1e300, -1e300, float("nan"), float("inf")])
def test_time_outside_calendar_is_written(absurd: float) -> None:
    moment = Moment.of(absurd)
    assert moment.utc == ""
    assert Moment.model_validate_json(moment.model_dump_json()) == moment


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "the whole"),
        (b"{", "the whole"),
        (b"[]", "the whole"),
        (b"{}", "take: Field required"),
        (TEXT.replace(b'"asynccam-take"', b'"other"'), "format"),
        (TEXT.replace(b'"arrived"', b'"lost"'), r"cameras\.0\.files\.0\.state"),
        (TEXT.replace(b'"version": 1', b'"version": 3'), "version 3; known are up to 2"),
        (TEXT.replace(b"multicam://A", b"\xff"), "the whole"),
    ],
)
def test_invalid_manifest_is_refused_with_its_location(data: bytes, words: str) -> None:
    with pytest.raises(StorageError, match=words):
        Manifest.from_bytes(data)


async def test_load_takes_the_file_or_its_directory(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_bytes(TEXT)
    assert await Manifest.load(tmp_path) == await Manifest.load(str(tmp_path / "manifest.json"))


async def test_load_names_what_it_could_not_read(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot read the manifest .*nothing: No such file"):
        await Manifest.load(tmp_path / "nothing")
    (tmp_path / "bad.json").write_bytes(b"no")
    with pytest.raises(StorageError, match=r"bad\.json is not the manifest of a take"):
        await Manifest.load(tmp_path / "bad.json")


def test_docs_schema_matches_model() -> None:
    assert SCHEMA.read_text() == json.dumps(manifest_schema(), indent=2) + "\n", (
        "write manifest_schema() to docs/manifest.schema.json"
    )


def test_docs_explain_every_field_in_model_words() -> None:
    schema = json.loads(json.dumps(manifest_schema()))
    page = PAGE.read_text()
    models = [schema, *schema["$defs"].values()]
    fields = [(name, field) for model in models for name, field in model.get("properties", {}).items()]
    assert len(fields) > 60
    missing = [name for name, field in fields if f"| `{name}` | {field['description']} |" not in page]
    assert not missing
