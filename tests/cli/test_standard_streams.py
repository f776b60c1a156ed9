"""The command with standard streams that are closed or full, and without a temporary directory."""

import asyncio
import shlex
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio

from asynccam.model.manifest import Manifest
from asynccam.systems.thorvision import ThorVisionSimulator, simulated_camera
from tests.support.command import COMMAND
from tests.support.multicam_device import running

_PATIENCE: Final = 60.0

_NO_TEMPORARY: Final = """
mount --make-rprivate / || exit 99
for place in /tmp /var/tmp /usr/tmp /dev/shm; do
  [ ! -d $place ] || mount --bind $place $place || exit 99
done
mount --bind {kept} {kept} || exit 99
for place in /tmp /var/tmp /usr/tmp /dev/shm; do
  [ ! -d $place ] || mount -o remount,bind,ro $place || exit 99
done
unset TMPDIR TEMP TMP
cd /proc
{python} -c 'import tempfile; tempfile.gettempdir()' 2>/dev/null && exit 98
exec {command}
"""


@pytest_asyncio.fixture
async def cameras(tmp_path: Path) -> AsyncIterator[list[str]]:
    """Addresses of a device that keeps its file and of a server whose stream is recorded here."""
    simulated = [simulated_camera(0, device_id="sim-0", width=64, height=64)]
    async with running(tmp_path / "device") as device, ThorVisionSimulator(simulated) as server:
        yield [f"multicam://127.0.0.1:{device.port}", f"thorvision://127.0.0.1:{server.port}/sim-0"]


def record(cameras: list[str], to: Path, *options: str) -> str:
    line = [*COMMAND, "record", *cameras, "--duration", "1", "--start-in", "0.2", "--to", str(to)]
    return shlex.join([*line, "--name", "take", *options])


async def shell(*arguments: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), _PATIENCE)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def all_home(take: Path) -> bool:
    manifest = await Manifest.load(take)
    files = [file for camera in manifest.cameras for file in camera.files]
    return len(files) == 2 and all((take / file.path).is_file() for file in files if file.path is not None)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
async def test_record_works_with_standard_streams_closed(
    closed: str, cameras: list[str], tmp_path: Path
) -> None:
    code, _, err = await shell("sh", "-c", f"exec {record(cameras, tmp_path)} {closed}")
    assert (code, err) == (0, "")
    assert await all_home(tmp_path / "take")


async def test_record_ends_its_take_when_stderr_is_full(cameras: list[str], tmp_path: Path) -> None:
    code, out, _ = await shell("sh", "-c", f"exec {record(cameras, tmp_path, '--verbose')} 2>/dev/full")
    assert code == 0
    assert "complete" in out
    assert await all_home(tmp_path / "take")


@pytest.mark.parametrize("options", [(), ("--json",)])
async def test_unwritable_result_is_a_storage_error(
    options: tuple[str, ...], cameras: list[str], tmp_path: Path
) -> None:
    code, _, err = await shell("sh", "-c", f"exec {record(cameras, tmp_path, *options)} >/dev/full")
    assert code == 6
    assert err == "asynccam: record: standard output cannot be written: No space left on device\n"
    assert await all_home(tmp_path / "take")


async def test_closed_stderr_gets_no_error_line() -> None:
    code, out, _ = await shell("sh", "-c", f"exec {shlex.join(COMMAND)} status multicam://127.0.0.1:1 2>&-")
    assert (code, out) == (3, "")


async def test_record_needs_no_temporary_directory(cameras: list[str], tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    script = _NO_TEMPORARY.format(
        kept=shlex.quote(str(kept)), python=shlex.quote(sys.executable), command=record(cameras, kept)
    )
    code, _, err = await shell("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script)
    if code in (1, 99) and "asynccam" not in err:
        pytest.skip(f"this kernel allows no mount namespace: {err.strip()}")
    assert (code, err) == (0, "")
    assert await all_home(kept / "take")
