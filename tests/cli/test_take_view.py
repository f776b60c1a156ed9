"""The live picture of a take, event by event."""

import io
import re
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from asynccam.cli.output import THEME
from asynccam.cli.take_view import TakeView
from asynccam.errors import TransferError
from asynccam.model.events import (
    CameraFailed,
    ClockMeasured,
    Event,
    FileArrived,
    FileProgress,
    RecordingStarted,
    TakePhaseChanged,
)
from asynccam.model.info import ClockOffset, LocalFile
from asynccam.model.manifest import CameraRecord, ErrorRecord, FileRecord, FileState, Manifest, Moment

CAMERA = "multicam://east"


def picture(view: TakeView) -> str:
    console = Console(theme=THEME, width=100, file=io.StringIO(), record=True)
    console.print(view)
    return console.export_text()


def view_of_one() -> TakeView:
    view = TakeView("a take", duration=5.0, start_in=3.0, before=("find",))
    view.add(CAMERA, "east")
    return view


def phase(name: str, at: float | None = None) -> Event:
    return TakePhaseChanged(take="a take", phase=name, at=time.time() if at is None else at)


def test_take_view_steps() -> None:
    view = view_of_one()
    view.handle(phase("arming"))
    text = picture(view)
    assert "✔ find" in text
    assert "· start" in text
    assert "✔ arm" not in text
    assert "· arm" not in text


def test_take_view_counts_to_t0_and_up() -> None:
    view = view_of_one()
    view.handle(phase("starting", at=time.time() - 1.0))
    assert re.search(r"T0 in (2\.0|1\.\d) s", picture(view))
    view.handle(RecordingStarted(camera=CAMERA, scheduled_for=1.0))
    assert "● scheduled" in picture(view)
    view.t0 = time.time() - 2.0
    view.handle(phase("recording"))
    text = picture(view)
    assert re.search(r"REC 2\.\d of 5 s", text)
    assert "scheduled" not in text


def test_take_view_shows_clock_and_transfer() -> None:
    view = view_of_one()
    view.handle(ClockMeasured(camera=CAMERA, offset=ClockOffset(0.00002, 0.00015, 0.0003, 8)))
    view.handle(phase("collecting"))
    view.handle(FileProgress(camera=CAMERA, name="a.mp4", received=1_500_000, total=3_000_000))
    text = picture(view)
    assert "+0.02 ± 0.15 ms" in text
    assert "1.5 MB" in text
    view.handle(FileArrived(camera=CAMERA, file=LocalFile(Path("a.mp4"), 3_000_000, seconds=0.5)))
    text = picture(view)
    assert "✔ downloaded" in text
    assert "6.0 MB/s" in text


def test_take_view_failed_camera_stays_failed() -> None:
    view = view_of_one()
    view.handle(CameraFailed(camera=CAMERA, step="collect", error=TransferError("cut\noff")))
    view.handle(phase("stopping"))
    text = picture(view)
    assert "✗ collect" in text
    assert "cut off" in text


def test_take_view_ignores_other_cameras() -> None:
    view = view_of_one()
    view.handle(RecordingStarted(camera="multicam://stranger"))
    assert "stranger" not in picture(view)


def ended(**camera: Any) -> Manifest:
    record = CameraRecord(id=CAMERA, name="east", system="multicam", directory="east", **camera)
    now = Moment.of(time.time())
    return Manifest(
        asynccam="0", take="a take", phase="done", created_at=now, written_at=now, cameras=[record]
    )


def test_take_view_end_shows_the_manifest() -> None:
    view = view_of_one()
    view.handle(phase("collecting"))
    file = FileRecord(name="a", source="device", state=FileState.ARRIVED, size=3_000_000, seconds=0.5)
    view.end(ended(files=[file]))
    text = picture(view)
    assert "✔ collect" in text
    assert "✔ downloaded" in text
    assert "6.0 MB/s" in text
    assert "·" not in text


def test_take_view_camera_without_file_is_bad() -> None:
    view = view_of_one()
    view.end(ended())
    assert "✗ no file" in picture(view)
    error = ErrorRecord(step="stop", error="X", message="it hangs", retryable=False, at=Moment.of(0.0))
    view.end(ended(errors=[error]))
    assert "it hangs" in picture(view)
