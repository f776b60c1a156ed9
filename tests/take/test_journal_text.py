"""Whatever a camera says, the manifest and journal of a take are written, and read back."""

import asyncio
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asynccam.errors import AsynccamError, DeviceError
from asynccam.model.info import ClockOffset
from asynccam.model.manifest import (
    CameraRecord,
    ClockRecord,
    ErrorRecord,
    FileRecord,
    FileState,
    Manifest,
    Moment,
    Outcome,
    VerdictRecord,
)
from asynccam.net.framing import encode_frame
from asynccam.net.jsonrpc import RpcError
from asynccam.net.jsonrpc_codec import ErrorReply as RpcFailure
from asynccam.net.jsonrpc_codec import JsonRpcCodec
from asynccam.recording.bus_messages import LaunchReader, PipelineError
from asynccam.recording.verify import FileVerdict, Verdict
from asynccam.systems.mediamtx.errors import service_error
from asynccam.systems.multicam.models import ErrorResponse
from asynccam.systems.multicam.models import refusal as multicam_refusal
from asynccam.systems.nanocam.protocol import Refused
from asynccam.systems.nanocam.reply_parser import ReplyReader
from asynccam.systems.snapshot.errors import status_error as snapshot_refusal
from asynccam.systems.thorvision.models import parse_cameras, parse_hot_plug
from asynccam.take import Take, TakeLimits
from asynccam.take.store import Journal, read_journal
from tests.package.test_outside import ANY_JSON, ANY_TEXT
from tests.support.scripted_camera import ScriptedCamera, refuse

NOW = Moment.of(1_790_000_000.0)
ODD_NUMBERS = st.sampled_from([float("nan"), float("inf"), -float("inf"), 1e308, 10**400, 2**64])
ANY_NUMBER = ODD_NUMBERS | st.floats() | st.integers()
LIMITS = TakeLimits(start_answer_grace=0.05, stop_timeout=1.0, verify_timeout=1.0)


def manifest(*cameras: CameraRecord) -> Manifest:
    return Manifest(take="take", phase="done", created_at=NOW, written_at=NOW, cameras=list(cameras))


# -- the writers --------------------------------------------------------------------------------


@given(ANY_TEXT, ANY_NUMBER)
def test_records_take_any_text_and_number(text: str, number: float) -> None:
    file = FileRecord(name=text, id=text, source="device", path=text, size=None, seconds=number)
    camera = CameraRecord(
        id=text,
        name=text,
        system=text,
        directory=text,
        features=["Record"],
        files=[file],
        start_status=text,
        first_frame_bound=number,
        errors=[ErrorRecord(step="stop", error="X", message=text * 3, retryable=False, at=Moment.of(number))],
    )
    written = manifest(camera)
    assert Manifest.from_bytes(written.to_bytes()) == written


@given(
    (ANY_JSON | ANY_NUMBER | st.binary() | st.builds(object) | st.just(10**5000)).filter(
        lambda one: one is not None
    )
)
def test_invalid_value_assigned_later_is_replaced_in_the_file(value: Any) -> None:
    camera = CameraRecord(
        id="a", name="a", system="b", directory="c", files=[FileRecord(name="f", source="device")]
    )
    other = CameraRecord(id="z", name="z", system="b", directory="d")
    written = manifest(camera, other)
    for one, name in (
        (camera, "start_status"),
        (camera, "start_lateness"),
        (camera, "spoiled_frames"),
        (camera.files[0], "size"),
        (camera.files[0], "name"),
        (written, "journal_lines"),
        (written, "duration"),
        (written, "later_field"),
    ):
        setattr(one, name, value)
    read = Manifest.from_bytes(written.to_bytes())
    assert read.cameras[1] == other
    assert (read.take, read.cameras[0].id, read.cameras[0].files[0].source) == ("take", "a", "device")


def test_plain_cuts_an_endless_list() -> None:
    written = manifest()
    endless: list[Any] = []
    endless.append(endless)
    written.later_field = endless  # type: ignore[attr-defined]  # kept for a later version
    assert Manifest.from_bytes(written.to_bytes()).take == "take"


def test_text_in_a_record_is_cut_and_says_so() -> None:
    record = ErrorRecord(step="stop", error="X", message="a" * 10_000_000, retryable=False, at=NOW)
    assert len(record.message) == 16_384
    assert record.message.endswith("...")


def test_verdict_without_unusable_numbers() -> None:
    found = VerdictRecord.of(FileVerdict(Path(), Verdict.COMPLETE, 3, float("inf"), 0, "\ud800"))
    assert (found.duration, found.detail) == (None, "?")


def test_clock_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="interval"):
        ClockRecord.of(ClockOffset(float("inf"), 0.1, 0.1, 3, 1e9))


@given(
    st.dictionaries(st.sampled_from(["names", "record", "camera"]), ANY_JSON | ANY_NUMBER | st.builds(object))
)
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=40)
def test_journal_writes_any_facts(facts: dict[str, Any]) -> None:
    async def write(directory: Path) -> bytes:
        journal = Journal(directory)
        await journal.create()
        await journal.write("camera", **facts)
        await journal.write("stopping")
        await journal.close(remove=False)
        return journal.path.read_bytes()

    with tempfile.TemporaryDirectory() as directory:
        first, second = read_journal(asyncio.run(write(Path(directory))))
    assert (first.event, first.line, set(first.facts)) == ("camera", 1, set(facts))
    assert (second.event, second.line) == ("stopping", 2)


@pytest.mark.parametrize("digits", [30, 400, 4_299, 5_000, 100_000])
async def test_huge_integer_in_a_journal_costs_no_line(tmp_path: Path, digits: int) -> None:
    huge = "9" * digits
    lines = f'{{"at": 5, "line": {huge}, "elapsed": {huge}, "event": "camera", "camera": "a", "x": {huge}}}\n'
    (tmp_path / "journal.jsonl").write_text(lines)
    journal = Journal(tmp_path)
    (entry,) = await journal.reopen()
    assert (entry.line, entry.elapsed, dict(entry.facts)) == (None, None, {"camera": "a", "x": None})
    await journal.write("resumed")
    await journal.close(remove=False)
    assert [one.event for one in read_journal(journal.path.read_bytes())] == ["camera", "resumed"]


# -- from each reader to the manifest -----------------------------------------------------------


def by_json_rpc(text: str, number: float) -> Exception:
    caller = JsonRpcCodec()
    request_id, _ = caller.request("stop_recording")
    told = {"code": -32006, "message": text, "data": {text: number}}
    (event,) = caller.receive(json.dumps({"id": request_id, "error": told}))
    assert isinstance(event, RpcFailure)
    return service_error(RpcError(event.code, event.message, event.data, method="stop_recording"), 1)


def by_multicam(text: str, number: float) -> Exception:
    try:
        answer = ErrorResponse.from_json(json.dumps({"status": "error", "message": text, "extra": number}))
    except AsynccamError as error:
        return error
    return multicam_refusal("multicam://here", "STOP_RECORDING", answer)


def by_nanocam(text: str, number: float) -> Exception:
    fields = {"answer": "refused", "kind": "bad", "reason": text, "extra": number}
    try:
        (event,) = ReplyReader().feed(encode_frame(json.dumps(fields).encode()))
    except AsynccamError as error:
        return error
    assert isinstance(event, Refused)
    return DeviceError(event.reason)


def by_snapshot(text: str, number: float) -> Exception:
    body = json.dumps({"error": text, "extra": number}).encode()
    return snapshot_refusal("snapshot", "http://here", 500, text, body)


def by_snapshot_redirect(text: str, number: float) -> Exception:
    return snapshot_refusal("snapshot", "http://here", 302, text, text.encode("utf-8", "surrogatepass"))


def by_thorvision(text: str, number: float) -> Exception:
    told = {"event_type": text, "camera": {"id": number, "name": text}}
    try:
        return DeviceError(str(parse_hot_plug(json.dumps(told).encode(), "here")))
    except AsynccamError as error:
        return error


def by_thorvision_list(text: str, number: float) -> Exception:
    try:
        return DeviceError(
            repr(parse_cameras(json.dumps([{"id": 1, "name": text, text: number}]).encode(), "here"))
        )
    except AsynccamError as error:
        return error


def by_gstreamer(text: str, number: float) -> Exception:
    line = f"ERROR: from element /GstPipeline:p/GstX:x: {text}\n".encode("utf-8", "surrogatepass")
    told = [one for one in LaunchReader().feed(line) if isinstance(one, PipelineError)]
    return DeviceError(told[0].text if told else "nothing")


READERS: list[Callable[[str, float], Exception]] = [
    by_json_rpc,
    by_multicam,
    by_nanocam,
    by_snapshot,
    by_snapshot_redirect,
    by_thorvision,
    by_thorvision_list,
    by_gstreamer,
    lambda text, number: DeviceError(text),  # a reader that lets through what it should not
]


@pytest.mark.parametrize("reader", READERS)
@given(text=ANY_TEXT, number=ANY_NUMBER)
@settings(
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    deadline=None,
    max_examples=6,
)
def test_any_refusal_text_leaves_the_other_camera_complete(
    reader: Callable[[str, float], Exception], text: str, number: float
) -> None:
    error = reader(text + "\ud800", number)

    async def run(directory: Path) -> None:
        bad = ScriptedCamera("bad", script={"accepted": refuse(error), "stop": refuse(error)})
        take = Take([ScriptedCamera("good"), bad], directory, limits=LIMITS)
        async with asyncio.timeout(20):
            await take.run(duration=0.02, start_in=0.02)
        read = await Manifest.load(take.directory)
        good, other = read.cameras
        assert good.outcome is Outcome.COMPLETE
        assert [file.state for file in good.files] == [FileState.ARRIVED]
        assert other.errors
        assert read == take.manifest

    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(run(Path(directory)))
