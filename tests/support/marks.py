"""The kind of each test file, unit, integration or browser, by what the file and its helpers import."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

TESTS: Final = Path(__file__).parents[1]
SLOWEST: Final = (
    "test_take_resume.py",
    "test_take_reference.py",
    "snapshot/web/test_browser_details.py",
    "recording/test_corpus.py",
    "cli/test_demo.py",
    "recording/test_ended_early.py",
    "seeds/test_nanocam.py",
    "test_take_clock_set.py",
    "test_benchmark_wires.py",
    "recording/containers/test_matroska.py",
    "cli/test_standard_streams.py",
    "recording/test_b_frames.py",
    "test_benchmark_presence.py",
    "test_presence.py",
    "cli/test_tutorial.py",
    "thorvision/test_two_takes.py",
)
"""Files that take over forty seconds each, in the order in which they begin."""
SLOW: Final = frozenset(
    {
        *SLOWEST,
        "mediamtx/test_deadlines.py",
        "mediamtx/test_models.py",
        "mediamtx/test_second_secret.py",
        "mediamtx/test_with_simulator.py",
        "multicam/test_camera_record.py",
        "multicam/test_client_armed.py",
        "multicam/test_client_download.py",
        "multicam/test_client_failures.py",
        "multicam/test_clock_set.py",
        "multicam/test_device_abuse.py",
        "multicam/test_device_recording.py",
        "multicam/test_discovery.py",
        "multicam/test_reference_time.py",
        "net/test_mdns_announce.py",
        "net/test_receive.py",
        "net/test_receive_broken.py",
        "recording/containers/test_jpeg.py",
        "snapshot/server/test_broken_pictures.py",
        "snapshot/server/test_v4l2ctl.py",
        "snapshot/test_broken_pictures.py",
        "snapshot/web/test_crowds.py",
        "snapshot/web/test_field_api.py",
        "snapshot/web/test_security.py",
        "test_architecture.py",
        "test_session.py",
        "test_session_open.py",
        "test_take.py",
        "test_take_cancel.py",
        "test_take_failures.py",
        "test_take_hosts.py",
        "test_take_multicam.py",
        "test_take_outside_text.py",
        "test_take_stills.py",
    }
)
"""Files that take over five seconds each without a process of their own, and those above."""

_STARTS_PROCESSES: Final = re.compile(
    r"subprocess|multiprocessing|os\.fork|ffmpeg|gst-launch|\bRecorder\(|\bLaunchProcess\b|\bPipeline\("
)
_IMPORTS: Final = re.compile(r"^\s*(?:from (tests[\w.]*) import|import (tests[\w.]*))", re.MULTILINE)


def marks_of(path: Path) -> tuple[str, ...]:
    """Return the names of the marks of a test file."""
    name = path.relative_to(TESTS).as_posix()
    modules = set(_closure(path))
    if TESTS / "support" / "browser.py" in modules:
        kind = "browser"
    elif any(_read(one)[1] for one in modules):
        kind = "integration"
    else:
        kind = "unit"
    if name not in SLOW:
        return (kind,)
    # `-m unit` is for those who wait for it.
    return ("slow",) if kind == "unit" else (kind, "slow")


def _closure(path: Path) -> Iterator[Path]:
    """Yield a file of the tests and every file of theirs that it needs."""
    found, left = {path}, [path]
    while left:
        one = left.pop()
        yield one
        for needed in _read(one)[0]:
            if needed not in found:
                found.add(needed)
                left.append(needed)


@cache
def _read(path: Path) -> tuple[tuple[Path, ...], bool]:
    """Return the files of the tests that a file imports, and whether it starts processes itself."""
    source = path.read_text()
    needed = []
    for names in _IMPORTS.finditer(source):
        module = TESTS.parent.joinpath(*(names[1] or names[2]).split("."))
        needed += [one for one in (module.with_suffix(".py"), module / "__init__.py") if one.is_file()]
    return tuple(needed), _STARTS_PROCESSES.search(source) is not None
