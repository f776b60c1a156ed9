"""What is missing is found before anything is started, and named with its Debian package."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from asynccam.errors import RecordingError
from asynccam.recording import Pipeline, Recorder, SingleFile, TestPattern
from asynccam.recording.gstreamer import find_installation, forget_installation

GST_INSPECT = """#!/bin/sh
echo run >> {log}
echo 'coreelements:  fakesink: Fake Sink'
echo 'coreelements:  filesink: File Sink'
echo
echo 'Total count: 1 plugin, 2 features'
"""


@pytest.fixture
def path_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory that is the whole PATH."""
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    forget_installation()
    yield programs
    forget_installation()


@pytest.fixture
def little_gstreamer(path_of_its_own: Path, tmp_path: Path) -> Path:
    """A GStreamer of two elements that logs each look at it; returns the log."""
    log = tmp_path / "log"
    for name in ("gst-launch-1.0", "gst-inspect-1.0"):
        program = path_of_its_own / name
        program.write_text(GST_INSPECT.format(log=log))
        program.chmod(0o755)
    return log


async def test_everything_used_here_is_installed_here() -> None:
    needed = {"videotestsrc", "x264enc", "mp4mux", "splitmuxsink", "srtsrc", "rtspsrc", "hlssink2"}
    found = await find_installation(needed)
    assert needed <= found.elements
    assert found.guard[-3:] == ("--pdeathsig", "INT", "--")


async def test_missing_elements_are_named_with_their_packages(little_gstreamer: Path) -> None:
    with pytest.raises(RecordingError) as caught:
        await find_installation({"fakesink", "x264enc", "srtsrc", "made-up"})
    assert str(caught.value) == (
        "GStreamer lacks made-up, srtsrc (Debian package gstreamer1.0-plugins-bad), "
        "x264enc (Debian package gstreamer1.0-plugins-ugly)"
    )


async def test_recorder_refuses_before_starting_a_process(little_gstreamer: Path, tmp_path: Path) -> None:
    pipeline = Pipeline(TestPattern(time_code=False), SingleFile(tmp_path / "a.mp4"))
    async with Recorder(pipeline) as recorder:
        with pytest.raises(RecordingError, match=r"mp4mux \(Debian package gstreamer1.0-plugins-good\)"):
            await recorder.start()
    assert not (tmp_path / "a.mp4").exists()


async def test_hundred_callers_share_one_lookup(little_gstreamer: Path) -> None:
    await asyncio.gather(*(find_installation({"fakesink"}) for _ in range(100)))
    assert little_gstreamer.read_text() == "run\n"


async def test_newly_installed_element_is_found(little_gstreamer: Path, path_of_its_own: Path) -> None:
    await find_installation()
    program = path_of_its_own / "gst-inspect-1.0"
    program.write_text(program.read_text() + "echo 'x264:  x264enc: x264 H.264 Encoder'\n")
    assert "x264enc" in (await find_installation({"x264enc"})).elements


async def test_without_setpriv_there_is_no_guard(little_gstreamer: Path) -> None:
    assert (await find_installation()).guard == ()


async def test_too_old_setpriv_is_not_used(little_gstreamer: Path, path_of_its_own: Path) -> None:
    old = path_of_its_own / "setpriv"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    assert (await find_installation()).guard == ()


async def test_missing_gstreamer_is_named_with_its_package(path_of_its_own: Path) -> None:
    with pytest.raises(RecordingError, match=r"Debian package gstreamer1\.0-tools"):
        await find_installation()


async def test_broken_gstreamer_is_an_error(little_gstreamer: Path, path_of_its_own: Path) -> None:
    (path_of_its_own / "gst-inspect-1.0").write_text("#!/bin/sh\nexit 3\n")
    with pytest.raises(RecordingError, match=r"gst-inspect-1\.0 does not work"):
        await find_installation()
