"""``asynccam doctor``: what it finds here, and what it says where something is wrong."""

import asyncio
import os
import socket
import time
from pathlib import Path

import pytest

from asynccam.cli import checks
from asynccam.cli.checks import Severity
from asynccam.recording.gstreamer import forget_installation
from tests.support.command import asynccam
from tests.support.ntp_server import ntp_server, says

LOOPBACK = ("--interface", "127.0.0.1")


async def test_doctor_healthy_computer(tmp_path: Path) -> None:
    ended = await asynccam("doctor", *LOOPBACK, "--to", tmp_path, "--json")
    assert (ended.code, ended.err) == (0, "")
    told = ended.json()
    assert told["healthy"] is True
    by_check = {one["check"] for one in told["findings"]}
    assert by_check >= {"Python", "GStreamer", "mDNS", "Ports", "Disk", "Cameras"}
    assert all(one["cure"] for one in told["findings"] if one["verdict"] != "good")


async def test_doctor_prints_marks_and_a_summary() -> None:
    ended = await asynccam("doctor", *LOOPBACK)
    assert ended.code == 0
    assert "✓  record RTSP cameras" in ended.out
    assert "Ready for takes" in ended.out


async def test_doctor_unreachable_camera_is_bad() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    ended = await asynccam("doctor", *LOOPBACK, f"multicam://127.0.0.1:{port}", "--json")
    assert ended.code == 9
    assert ended.json()["healthy"] is False
    (bad,) = [one for one in ended.json()["findings"] if one["verdict"] == "bad"]
    assert str(port) in bad["found"]
    assert bad["cure"]


async def test_doctor_invalid_address_is_a_finding() -> None:
    ended = await asynccam("doctor", *LOOPBACK, "nonsense", "--json")
    assert ended.code == 9
    assert "nonsense" in next(one for one in ended.json()["findings"] if one["verdict"] == "bad")["found"]


async def test_check_gstreamer_missing_names_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    forget_installation()
    try:
        (found,) = await checks.check_gstreamer()
    finally:
        forget_installation()
    assert found.verdict is Severity.BAD
    assert "gstreamer1.0-plugins-good" in found.cure


async def test_check_mdns_unknown_interface_is_bad() -> None:
    (found,) = await checks.check_mdns(["203.0.113.1"])
    assert found.verdict is Severity.BAD
    assert "5353" in found.cure


def test_check_ports_used_and_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (found,) = checks.check_ports([("a test", port, False)])
    assert (found.verdict, str(port) in found.found) == (Severity.NOTE, True)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        (busy,) = checks.check_ports([("a test", udp.getsockname()[1], True)])
    assert busy.verdict is Severity.NOTE
    (free,) = checks.check_ports([("a test", 0, False)])
    assert free.verdict is Severity.GOOD


def test_check_disk_uses_the_nearest_existing_directory(tmp_path: Path) -> None:
    space, written = checks.check_disk(tmp_path / "not" / "yet")
    assert str(tmp_path) in space.found
    assert written.verdict is Severity.GOOD
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root sees /proc/self as a directory nobody may write to")
def test_check_disk_unwritable_is_bad() -> None:
    assert checks.check_disk(Path("/proc/self"))[1].verdict is Severity.BAD


def test_check_devices_permissions(tmp_path: Path) -> None:
    (none,) = checks.check_devices(tmp_path)
    assert none.verdict is Severity.GOOD
    (tmp_path / "video0").touch()
    (there,) = checks.check_devices(tmp_path)
    assert (there.verdict, "video0" in there.found) == (Severity.GOOD, True)
    (tmp_path / "video1").symlink_to(tmp_path / "gone")
    assert checks.check_devices(tmp_path)[1].verdict is Severity.BAD


@pytest.mark.parametrize(
    ("state", "verdicts"),
    [(0, [Severity.GOOD]), (5, [Severity.NOTE]), (None, [])],
    ids=["kept", "free", "other"],
)
def test_check_kernel_clock_states(state: int | None, verdicts: list[Severity]) -> None:
    assert [one.verdict for one in checks.check_kernel_clock(lambda: state)] == verdicts


async def test_check_time_server_offset() -> None:
    async with ntp_server(says(3.0, time.time)) as server:
        (found,) = await checks.check_time_server(f"127.0.0.1:{server.port}")
    assert found.verdict is Severity.NOTE
    assert "+3,0" in found.found
    (nonsense,) = await asyncio.wait_for(checks.check_time_server("a b/c"), 10)
    assert nonsense.verdict is Severity.BAD
