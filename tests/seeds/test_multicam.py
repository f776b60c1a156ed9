"""multicam-common: every example of its README against our device server."""

from pathlib import Path
from typing import Any

import pytest

from asynccam.errors import UsageError
from asynccam.systems.multicam import (
    CommandMessage,
    CommandType,
    FileMetadata,
    FileResponse,
    ListFilesResponse,
    StatusResponse,
)
from asynccam.systems.multicam.models import ProtocolMessage
from tests.seeds.examples import Changes, blocks, run
from tests.support.multicam_device import running

BLOCKS = blocks("multicam")
IMPORTS = {"multicam_common": "asynccam.systems.multicam"}
FILE_ID = "device-id_1729000000123"


def here(port: int) -> Changes:
    """The port is part of the address: the maker's is fixed, the test's is a free one."""
    constant = "from asynccam.systems.multicam import CommandMessage, StatusResponse, TCP_PORT\n"
    return Changes(
        IMPORTS, places={'"192.168.1.100"': '"127.0.0.1"', constant: f"{constant}TCP_PORT = {port}\n"}
    )


async def test_messages_are_made_and_read(tmp_path: Path) -> None:
    headings = ("Importing", "Creating Commands", "Parsing Responses", "Working with Device Status")
    ran = await run(Changes(IMPORTS).to("".join(BLOCKS[heading] for heading in headings)), tmp_path)
    assert (ran.code, ran.err) == (0, "")
    first, *rest = ran.out.splitlines()
    assert '"command": "START_RECORDING"' in first
    assert rest[:5] == [
        "Device: device-123",
        "Status: ready",
        "Recording: False",
        "Operation successful!",
        "Device is ready",
    ]
    assert "DeviceStatus.SCHEDULED_RECORDING_ACCEPTED" in rest[5]


async def test_constants_and_a_socket_of_ones_own(tmp_path: Path) -> None:
    async with running(tmp_path / "device") as device:
        names = 'device_ip = "127.0.0.1"\nfrom asynccam.systems.multicam import CommandMessage\n'
        names += "cmd = CommandMessage.device_status()\n"
        port = {"\n# Use in your networking code": f"\nTCP_PORT = {device.port}"}
        changes = Changes(IMPORTS, places=port)
        ran = await run(names + changes.to(BLOCKS["Constants"]) + "print(sock.recv(4096).decode())", tmp_path)
    assert (ran.code, ran.err) == (0, "")
    assert '"ready"' in ran.out


async def test_command_is_sent_to_a_device(tmp_path: Path) -> None:
    async with running(tmp_path / "device") as device:
        example = BLOCKS["Complete Example: Send Command to Device"]
        ran = await run(here(device.port).to(example), tmp_path)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("Status: ")
    assert "error" not in ran.out


async def test_file_is_fetched(tmp_path: Path) -> None:
    (tmp_path / "device").mkdir()
    content = bytes(range(256)) * 4000
    (tmp_path / "device" / f"{FILE_ID}.mp4").write_bytes(content)
    async with running(tmp_path / "device") as device:
        # It uses what the example before it imported.
        before, _, _ = BLOCKS["Complete Example: Send Command to Device"].partition("def send_command")
        example = here(device.port).to(before + BLOCKS["File Transfer Example"])
        ran = await run(example, tmp_path)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.endswith("Downloaded to: video.mp4\n")
    assert (tmp_path / "video.mp4").read_bytes() == content


FIELDS: list[tuple[type[ProtocolMessage], dict[str, Any]]] = [
    (
        CommandMessage,
        {"command": CommandType.GET_VIDEO, "timestamp": 1.5, "deviceId": "controller", "fileId": FILE_ID},
    ),
    (
        StatusResponse,
        {
            "deviceId": "d",
            "status": "ready",
            "timestamp": 1.5,
            "isRecording": False,
            "message": "m",
            "fileId": FILE_ID,
            "fileSize": 3,
        },
    ),
    (FileResponse, {"deviceId": "d", "fileId": "i", "fileName": "n", "fileSize": 3, "status": "ready"}),
    (
        FileMetadata,
        {"fileId": "i", "fileName": "n", "fileSize": 3, "creationDate": 1.5, "modificationDate": 2.5},
    ),
    (ListFilesResponse, {"deviceId": "d", "status": "ready", "timestamp": 1.5, "files": []}),
]
"""The fields of "Data Classes", in the order of that page."""


@pytest.mark.parametrize(("message", "fields"), FIELDS, ids=[message.__name__ for message, _ in FIELDS])
def test_data_classes_take_their_fields_by_name_and_by_place(
    message: type[ProtocolMessage], fields: dict[str, Any]
) -> None:
    for made in (message(**fields), message(*fields.values())):
        assert {name: getattr(made, name) for name in fields} == fields
    first, value = next(iter(fields.items()))
    with pytest.raises(UsageError, match=f"{first} is given twice"):
        message(value, **fields)
    with pytest.raises(UsageError, match="too many"):
        message(*range(50))
