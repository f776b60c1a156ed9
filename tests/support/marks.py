"""The kind of each test file, unit, integration or browser, by what the file and its helpers import."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

TESTS: Final = Path(__file__).parents[1]
SLOWEST: Final = (
    "take/test_resume.py",
    "take/test_clocks_reference.py",
    "systems/snapshot/web/test_browser_details.py",
    "recording/test_corpus.py",
    "cli/test_demo.py",
    "recording/test_coverage.py",
    "seeds/test_nanocam.py",
    "take/test_clocks_set.py",
    "benchmarks/test_wires.py",
    "recording/containers/test_matroska.py",
    "cli/test_standard_streams.py",
    "recording/test_sources_b_frames.py",
    "benchmarks/test_presence.py",
    "session/test_presence.py",
    "cli/test_tutorial.py",
    "systems/thorvision/test_two_takes.py",
)
"""Files that take over forty seconds each, in the order in which they begin."""
SLOW: Final = frozenset(
    {
        *SLOWEST,
        "systems/mediamtx/test_deadlines.py",
        "systems/mediamtx/test_models.py",
        "systems/mediamtx/test_second_secret.py",
        "systems/mediamtx/test_with_simulator.py",
        "systems/multicam/test_record.py",
        "systems/multicam/test_client_armed.py",
        "systems/multicam/test_client_download.py",
        "systems/multicam/test_client_failures.py",
        "systems/multicam/test_clock_set.py",
        "systems/multicam/test_device_abuse.py",
        "systems/multicam/test_device_recording.py",
        "systems/multicam/test_discovery.py",
        "systems/multicam/test_reference_time.py",
        "net/test_mdns_announce.py",
        "net/transfer/test_download.py",
        "net/transfer/test_download_broken.py",
        "recording/containers/test_jpeg.py",
        "systems/snapshot/server/test_broken_pictures.py",
        "systems/snapshot/server/test_v4l2.py",
        "systems/snapshot/test_broken_pictures.py",
        "systems/snapshot/web/test_crowds.py",
        "systems/snapshot/web/test_api_legacy.py",
        "systems/snapshot/web/test_access_policy.py",
        "project/test_architecture.py",
        "session/test_session.py",
        "session/test_open.py",
        "take/test_take.py",
        "take/test_take_cancel.py",
        "take/test_take_failures.py",
        "take/test_take_hosts.py",
        "take/test_take_multicam.py",
        "take/test_journal_text.py",
        "take/test_participant_pictures.py",
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
