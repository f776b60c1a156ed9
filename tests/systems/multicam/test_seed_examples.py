"""The two examples that talk to a device, as they stand but for the import and ``await``, over the client.

What the examples write out by hand with a blocking socket is what `MultiCamClient` does.
"""

import ast
import re
from pathlib import Path
from typing import Any

import pytest

from asynccam.systems.multicam.client import MultiCamClient
from asynccam.systems.multicam.models import CommandMessage, DeviceStatus, StatusResponse
from tests.systems.multicam.peers import Android, Conversation, Ios, Oak, Peer

SEED = (Path(__file__).parent / "seed_examples.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"^### (.*?)\n.*?```python\n(.*?)```", SEED, re.DOTALL | re.MULTILINE))


def how_to_use(heading: str, function: str) -> str:
    """The example's last lines, with the call awaited."""
    use: str = BLOCKS[heading].partition("# Use it\n")[2]
    assert use.count(f"{function}(") == 1
    return use.replace(f"{function}(", f"await {function}(")


async def run(source: str, names: dict[str, Any]) -> None:
    code = compile(source, "example", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    await eval(code, names)


@pytest.mark.parametrize("kind", [Oak, Android, Ios])
async def test_send_command_to_device(
    kind: type[Oak] | type[Android] | type[Ios], capsys: pytest.CaptureFixture[str]
) -> None:
    device = kind()
    async with Peer(device.talk) as peer:

        async def send_command(device_ip: str, command: CommandMessage) -> object:
            assert device_ip == "192.168.1.100"
            async with MultiCamClient("127.0.0.1", peer.port) as client:
                return await client.send(command)

        names: dict[str, Any] = {"send_command": send_command, "CommandMessage": CommandMessage}
        await run(how_to_use("Complete Example: Send Command to Device", "send_command"), names)
    response = names["response"]
    assert isinstance(response, StatusResponse)
    assert DeviceStatus.is_success(response.status)
    assert capsys.readouterr().out == f"Status: {response.status}\nRecording: {response.isRecording}\n"
    assert device.told("START_RECORDING") == 1


BODY = bytes(range(256)) * 4000
FILE_ID = "device-id_1729000000123"


@pytest.mark.parametrize(
    "conversation", [Oak({FILE_ID: BODY}).talk, Android({FILE_ID: BODY}).talk, Ios({FILE_ID: BODY}).talk]
)
async def test_file_transfer(conversation: Conversation, tmp_path: Path) -> None:
    saved: list[Path] = []
    async with Peer(conversation) as peer:

        async def download_video(device_ip: str, file_id: str, output_path: str) -> None:
            assert (device_ip, file_id, output_path) == ("192.168.1.100", FILE_ID, "video.mp4")
            async with MultiCamClient("127.0.0.1", peer.port) as client:
                file = await client.download(file_id, tmp_path)
            saved.append(file.path.rename(tmp_path / output_path))

        await run(how_to_use("File Transfer Example", "download_video"), {"download_video": download_video})
    assert saved[0].read_bytes() == BODY
