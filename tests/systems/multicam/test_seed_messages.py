"""The examples of the protocol's own Python package run here as they stand, but for the import."""

import queue
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from asynccam.systems import multicam

SEED = (Path(__file__).parent / "seed_examples.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"^### (.*?)\n.*?```python\n(.*?)```", SEED, re.DOTALL | re.MULTILINE))
FILE = bytes(range(256)) * 100
ANSWERS = {
    "START_RECORDING": b'{"deviceId":"d","status":"recording","timestamp":1729000000.5,"isRecording":true}',
    "GET_VIDEO": b'\x00\x00\x00\x68{"deviceId":"d","fileId":"device-id_1729000000123","fileName":"v.mov",'
    b'"fileSize":25600,"status":"ready"}' + FILE,
}


def run(heading: str, names: dict[str, Any]) -> None:
    exec(BLOCKS[heading].replace("multicam_common", "asynccam.systems.multicam"), names)


class Device:
    """Answers one command on each connection with bytes written by hand."""

    def __init__(self) -> None:
        self.commands: queue.Queue[bytes] = queue.Queue()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            with connection:
                command = connection.recv(4096)
                if not command:
                    return
                self.commands.put(command)
                for word, answer in ANSWERS.items():
                    if word.encode() in command:
                        connection.sendall(answer)
                connection.recv(1)

    def close(self) -> None:
        socket.create_connection(("127.0.0.1", self.port)).close()
        self._thread.join()
        self._listener.close()


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[Device]:
    """A device at the address that the examples name."""
    device = Device()

    class Redirected(socket.socket):
        def connect(self, address: Any, /) -> None:
            assert address == ("192.168.1.100", 8080)
            super().connect(("127.0.0.1", device.port))

    with monkeypatch.context() as patched:
        patched.setattr(socket, "socket", Redirected)
        yield device
    device.close()


def test_every_example_is_covered() -> None:
    assert list(BLOCKS) == [
        "Importing",
        "Creating Commands",
        "Parsing Responses",
        "Working with Device Status",
        "Constants",
        "Complete Example: Send Command to Device",
        "File Transfer Example",
    ]


def test_creating_commands(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    run("Importing", names)
    run("Creating Commands", names)
    printed = capsys.readouterr().out
    promised = '{"command": "START_RECORDING", "timestamp": 1729000000.123, '
    promised += '"deviceId": "controller", "fileId": null}'
    assert promised in BLOCKS["Creating Commands"]
    assert re.sub(r"\d+\.\d+", "1729000000.123", printed) == promised + "\n"
    assert names["cmd"].command == multicam.CommandType.HEARTBEAT


def test_parsing_and_status(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    run("Importing", names)
    run("Parsing Responses", names)
    assert capsys.readouterr().out.splitlines() == [
        "Device: device-123",
        "Status: ready",
        "Recording: False",
        "Operation successful!",
    ]
    run("Working with Device Status", names)
    ready, statuses = capsys.readouterr().out.splitlines()
    assert ready == "Device is ready"
    promised = "[DeviceStatus.READY, DeviceStatus.RECORDING, DeviceStatus.STOPPING, "
    assert f"# {promised}" in BLOCKS["Working with Device Status"]
    assert statuses.startswith(promised)


def test_constants(device: Device) -> None:
    names: dict[str, Any] = {"device_ip": "192.168.1.100", "cmd": multicam.CommandMessage.stop_recording()}
    run("Constants", names)
    names["sock"].close()
    promised = re.findall(r"^    (\w+), +# (\S+)", BLOCKS["Constants"], re.MULTILINE)
    assert len(promised) == 6
    for name, value in promised:
        assert names[name] == (value.strip('"') if '"' in value else float(value))
    assert device.commands.get(timeout=5) == names["cmd"].to_bytes()


def test_send_command_to_device(device: Device, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    run("Complete Example: Send Command to Device", names)
    assert capsys.readouterr().out == "Status: recording\nRecording: True\n"
    assert device.commands.get(timeout=5) == names["cmd"].to_bytes()


def test_file_transfer(
    device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"socket": socket}  # the example relies on the imports of those before it
    run("Importing", names)
    run("File Transfer Example", names)
    assert (tmp_path / "video.mp4").read_bytes() == FILE
    assert capsys.readouterr().out == "Downloading: v.mov\nSize: 25600 bytes\nDownloaded to: video.mp4\n"


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("CommandMessage", "command timestamp deviceId fileId"),
        ("StatusResponse", "deviceId status timestamp isRecording message fileId fileSize"),
        ("FileResponse", "deviceId fileId fileName fileSize status"),
        ("FileMetadata", "fileId fileName fileSize creationDate modificationDate"),
        ("ListFilesResponse", "deviceId status timestamp files"),
    ],
)
def test_promised_fields(name: str, fields: str) -> None:
    assert set(fields.split()) <= set(get_type_hints(getattr(multicam, name)))
