"""The log of the command: every wire is in it, and no secret."""

import logging
import threading
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from asynccam.cli.logs import _MAX_QUEUED, _ThreadHandler
from tests.support.command import asynccam
from tests.support.devices import device_process

LOGGERS = (
    "asynccam.net.tcp: connected to ",
    "asynccam.net.reconnecting: ws://",
    'asynccam.net.jsonrpc: ws://127.0.0.1:{mediamtx}/ws: request 1 authenticate {{"auth_token": "***"',
    "asynccam.net.jsonrpc: ws://127.0.0.1:{mediamtx}/ws: response 1 ",
    "asynccam.net.http: GET http://127.0.0.1:{snapshot}/api/cameras",
    "asynccam.net.http: GET http://127.0.0.1:{snapshot}/api/cameras: HTTP 200, application/json",
    "asynccam.systems.multicam.connection: multicam://127.0.0.1:{multicam}: command ",
    "asynccam.systems.multicam.connection: multicam://127.0.0.1:{multicam}: response ",
    "asynccam.systems.nanocam.client_session: nanocam server 127.0.0.1:{nanocam}: request VideoRequest ",
    "asynccam.systems.nanocam.client_session: nanocam server 127.0.0.1:{nanocam}: response Ok",
    "gst-launch-1.0 ",
    "-> recording",
    "asynccam.take.take: take t: new -> arming",
    "asynccam.session.session: event CameraFound",
)


@pytest.mark.timeout(120)
async def test_log_of_a_take_has_no_secrets(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    secret = "nanocam-5ecret-t0ken"
    async with AsyncExitStack() as stack:
        devices = {
            system: await stack.enter_async_context(device_process(system, tmp_path / system, *options))
            for system, options in {
                "multicam": ("--device-id", tmp_path.name[:20]),
                "mediamtx": ("--live",),
                "thorvision": (),
                "snapshot": (),
                "nanocam": ("--token", secret),
            }.items()
        }
        token = str(devices["mediamtx"].said["token"])
        (tmp_path / "mediamtx-token").write_text(token)
        (tmp_path / "nanocam-token").write_text(secret)
        more = {
            "mediamtx": f'token_file = "mediamtx-token"\nhttp_port = {devices["mediamtx"].http_port}\n',
            "nanocam": 'token_file = "nanocam-token"\n',
        }
        fleet = tmp_path / "fleet.toml"
        fleet.write_text(
            "".join(
                f'[[camera]]\naddress = "{device.address}"\n{more.get(system, "")}'
                for system, device in devices.items()
            )
        )
        line = ("--log-file", log, "record", "--fleet", fleet, "--to", tmp_path / "takes", "--name", "t")
        ended = await asynccam(*line, "--duration", 1.5, "--start-in", 1, timeout=100)
    text = log.read_text()
    assert ended.err == "", text[-3000:]
    ports = {system: device.address.rpartition(":")[2] for system, device in devices.items()}
    assert [one for one in LOGGERS if one.format_map(ports) not in text] == []
    for hidden in (token, secret, *token.split(".")):
        assert hidden not in text
    assert all(len(line) < 5000 for line in text.splitlines())


async def test_log_level_without_file_logs_to_stderr() -> None:
    ended = await asynccam("--log-level", "debug", "status", "snapshot://127.0.0.1:1")
    assert ended.code == 3
    assert "DEBUG   asynccam.net.http: GET http://127.0.0.1:1/api/cameras" in ended.err
    ended = await asynccam("--log-level", "error", "status", "snapshot://127.0.0.1:1")
    assert ended.err.count("\n") == 1


async def test_log_on_a_full_disk_is_reported_once() -> None:
    ended = await asynccam("--log-file", "/dev/full", "status", "snapshot://127.0.0.1:1")
    assert ended.code == 3
    assert ended.err.count("the log is not complete: [Errno 28]") == 1
    assert "Traceback" not in ended.err


def test_log_written_too_slowly_counts_dropped_records(
    capsys: pytest.CaptureFixture[str],
) -> None:
    go_on = threading.Event()
    written = 0

    class Slow(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            nonlocal written
            go_on.wait(20)
            written += 1

    handler = _ThreadHandler(Slow())
    for _ in range(_MAX_QUEUED + 50):
        handler.handle(logging.makeLogRecord({"msg": "x"}))
    go_on.set()
    handler.finish()
    lacking = _MAX_QUEUED + 50 - written
    assert 0 < lacking <= 50
    assert f"the log lacks {lacking} records" in capsys.readouterr().err


async def test_log_file_unwritable_is_a_storage_error(tmp_path: Path) -> None:
    ended = await asynccam("--log-file", tmp_path / "missing" / "log.txt", "status", "snapshot://127.0.0.1:1")
    assert ended.code == 6
    assert "cannot write the log to" in ended.err
