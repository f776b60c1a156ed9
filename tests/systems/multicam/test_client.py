"""MultiCamClient: every command, against devices with the quirks of the real ones."""

import json
import logging
import re
import time

import pytest

from asynccam.errors import (
    ClockNotSynchronizedError,
    DeviceError,
    NotFoundError,
    RemoteProtocolError,
    UsageError,
)
from asynccam.systems.multicam.client import MultiCamClient
from asynccam.systems.multicam.models import (
    CommandMessage,
    ListFilesResponse,
    StatusResponse,
    StopRecordingResponse,
)
from tests.support.cuts import every_cut
from tests.systems.multicam.peers import Android, Ios, Oak, Peer, says

READY = b'{"deviceId": "d\xc3\xa9vice", "status": "ready", "timestamp": 1729000000.456}'


def client(peer: Peer, **options: object) -> MultiCamClient:
    return MultiCamClient("127.0.0.1", peer.port, timeout=5.0, **options)  # type: ignore[arg-type]


async def test_status_of_each_kind_of_device() -> None:
    async with Peer(Oak().talk) as oak, Peer(Android().talk) as android, Peer(Ios().talk) as ios:
        assert (await client(oak).device_status()).status == "ready"
        status = await client(android).device_status()
        assert (status.deviceId, status.batteryLevel, status.deviceType) == (
            "Mountain-A1B2C3D4",
            85.5,
            "Android:Phone",
        )
        status = await client(ios).device_status()
        assert (status.status, status.raw_status, status.isRecording) == ("ready", "Ready", False)


async def test_heartbeat_returns_device_time() -> None:
    async with Peer(Oak().talk) as peer:
        before = time.time()
        answer = await client(peer).heartbeat()
        assert answer.status == "command_received"
        assert before <= answer.timestamp <= time.time()


async def test_device_status_returns_error_status() -> None:
    oak = Oak()
    oak.disconnected = True
    async with Peer(oak.talk) as peer:
        assert (await client(peer).device_status()).status == "camera_disconnected"


@pytest.mark.parametrize("kind", [Oak, Android, Ios])
async def test_start_and_stop(kind: type[Oak] | type[Android] | type[Ios]) -> None:
    device = kind()
    async with Peer(device.talk) as peer:
        controller = client(peer)
        answer = await controller.start_recording()
        assert answer.status in {"command_received", "scheduled_recording_accepted", "recording"}
        assert (await controller.device_status()).isRecording
        stopped = await controller.stop_recording()
        assert stopped.status == "recording_stopped"
        assert stopped.fileName or stopped.fileId
        assert not (await controller.device_status()).isRecording
    assert [one["deviceId"] for one in device.commands] == ["controller"] * 4


async def test_scheduled_start_sends_its_time() -> None:
    device = Android()
    async with Peer(device.talk) as peer:
        answer = await client(peer, device_id="lab-7").start_recording(1729000003.5)
        assert answer.status == "scheduled_recording_accepted"
    assert (device.commands[0]["timestamp"], device.commands[0]["deviceId"]) == (1729000003.5, "lab-7")


async def test_command_is_one_json_document_in_one_write() -> None:
    device = Android()
    async with Peer(device.talk) as peer:
        await client(peer).heartbeat()
    assert len(device.reads) == 1
    assert device.reads[0].startswith(b"{")
    assert device.reads[0].endswith(b"}")
    assert json.loads(device.reads[0])["command"] == "HEARTBEAT"


async def test_one_connection_per_command() -> None:
    async with Peer(Android().talk) as peer:
        controller = client(peer)
        for _ in range(3):
            await controller.heartbeat()
        assert peer.opened == 3


async def test_list_files_in_both_dialects() -> None:
    oak, ios = Oak({"video_1.zip": b"x" * 7}), Ios({"iPhone-7_1": b"y" * 9})
    async with Peer(oak.talk) as peer:
        (entry,) = (await client(peer).list_files()).files
        assert (entry.fileName, entry.fileId, entry.fileSize) == ("video_1.zip", "", 7)
    async with Peer(ios.talk) as peer:
        (entry,) = (await client(peer).list_files()).files
        assert (entry.fileName, entry.fileId, entry.fileSize) == ("iPhone-7_1.mov", "iPhone-7_1", 9)


async def test_list_files_over_many_reads() -> None:
    oak = Oak({f"video_{number}.zip": b"x" for number in range(5000)})
    async with Peer(oak.talk) as peer:
        assert len((await client(peer).list_files()).files) == 5000


async def test_list_files_refused_without_message() -> None:
    async with Peer(Android().talk) as peer:
        with pytest.raises(DeviceError, match=r"refused LIST_FILES: error$") as caught:
            await client(peer).list_files()
        assert caught.value.status == "error"


async def test_refusal_error_types() -> None:
    android, oak = Android(), Oak()
    android.synchronized = False
    oak.disconnected = True
    async with Peer(android.talk) as peer:
        with pytest.raises(ClockNotSynchronizedError):
            await client(peer).start_recording(time.time() + 3)
    async with Peer(oak.talk) as peer:
        with pytest.raises(DeviceError, match="camera_disconnected"):
            await client(peer).start_recording()
        with pytest.raises(DeviceError) as caught:
            await client(peer).stop_recording()
        assert caught.value.status == "error"


@pytest.mark.parametrize(
    "words",
    [
        b'{"deviceId":"a","status":"file_not_found","timestamp":1.5,"message":"File v.mp4 not found"}',
        b'{"status":"error","message":"Failed to finalize video: v.mp4"}',
        b'{"deviceId":"a","status":"File not found","timestamp":1}',
    ],
)
async def test_download_missing_file_refusal(words: bytes) -> None:
    async with Peer(says(words)) as peer:
        with pytest.raises(NotFoundError):
            await client(peer).upload_to_cloud("v.mp4", upload_url="https://bucket/v.mp4")


async def test_unknown_status_is_not_an_error() -> None:
    async with Peer(says(b'{"deviceId":"a","status":"polishing lens","timestamp":5}')) as peer:
        assert (await client(peer).start_recording()).status == "polishing lens"


async def test_reply_any_cuts() -> None:
    for pieces in [*list(every_cut(READY))[::7], [bytes([byte]) for byte in READY]]:
        async with Peer(says(*pieces)) as peer:
            assert (await client(peer).device_status()).deviceId == "dévice"


@pytest.mark.parametrize("tail", [b"\0", b"\r\n", b"\n\0\0", b'{"command":"HEARTBEAT","timestamp":2.5}'])
async def test_bytes_after_reply_are_ignored(tail: bytes) -> None:
    async with Peer(says(READY + tail)) as peer:
        assert (await client(peer).device_status()).status == "ready"


async def test_reply_with_length_prefix() -> None:
    async with Peer(says(len(READY).to_bytes(4, "big") + READY)) as peer:
        assert (await client(peer).device_status()).status == "ready"


@pytest.mark.parametrize(
    "nonsense",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"[]",
        b'{"deviceId": 5, "status": "ready", "timestamp": 1}',
        b'{"deviceId": "a", "status": "ready", "timestamp": "soon"}',
        b'{"deviceId": "\xff", "status": "ready", "timestamp": 1}',
        b"\xff\xff\xff\xff",
        b"{}",
    ],
)
async def test_invalid_reply_is_a_protocol_error(nonsense: bytes) -> None:
    async with Peer(says(nonsense, then="close")) as peer:
        with pytest.raises(RemoteProtocolError, match=str(peer.port)):
            await client(peer, retries=0).device_status()


async def test_upload_command_fields() -> None:
    device = Android()
    device.obey = lambda command: (  # type: ignore[method-assign]
        b'{"deviceId":"a","status":"upload_queued","timestamp":1.5,"fileName":"v.mp4","fileSize":9}'
    )
    async with Peer(device.talk) as peer:
        answer = await client(peer).upload_to_cloud("v.mp4", upload_url="https://bucket/v.mp4?sig=abc")
    assert answer.status == "upload_queued"
    sent = device.commands[0]
    assert (sent["fileName"], sent["fileId"], sent["uploadUrl"]) == (
        "v.mp4",
        "v.mp4",
        "https://bucket/v.mp4?sig=abc",
    )


async def test_send_returns_unchanged_reply() -> None:
    oak = Oak({"a.zip": b"1"})
    async with Peer(oak.talk) as peer:
        controller = client(peer)
        assert isinstance(await controller.send(CommandMessage.heartbeat()), StatusResponse)
        listed = await controller.send(CommandMessage.list_files())
        assert isinstance(listed, ListFilesResponse)
        refused = await controller.send(CommandMessage.stop_recording())
        assert isinstance(refused, StopRecordingResponse)
        assert refused.status == "error"
        with pytest.raises(UsageError, match="download"):
            await controller.send(CommandMessage.get_video("a"))
        assert oak.told("GET_VIDEO") == 0


async def test_long_command_logs_warning(caplog: pytest.LogCaptureFixture) -> None:
    device = Android()
    async with Peer(device.talk) as peer:
        with caplog.at_level(logging.WARNING):
            await client(peer).heartbeat()
            assert not caplog.records
            with pytest.raises(DeviceError):
                await client(peer).upload_to_cloud("v.mp4", upload_url="https://b/" + "x" * 4200)
    assert re.search(r"UPLOAD_TO_CLOUD to multicam://\S+ is \d+ bytes", caplog.text)
    assert "xxx" not in caplog.text


async def test_clock_of_a_device_that_is_ahead() -> None:
    def ahead() -> bytes:
        return b'{"deviceId":"a","status":"ready","timestamp":%f}' % (time.time() + 100)

    device = Android()
    device.obey = lambda command: ahead()  # type: ignore[method-assign]
    async with Peer(device.talk) as peer:
        offset = await client(peer).measure_clock(samples=4)
        assert abs(offset.offset - 100) <= offset.bound + 0.001
        assert offset.samples == 4
        assert 0 < offset.round_trip < 0.5
        assert peer.opened == 4
    assert device.told("HEARTBEAT") == 4


async def test_many_clock_samples_open_a_few_connections_at_a_time() -> None:
    opened: list[int] = []
    device = Android()

    def milliseconds(command: object) -> bytes:
        opened.append(peer.opened)
        return b'{"deviceId":"a","status":"ready","timestamp":%.3f}' % time.time()

    device.obey = milliseconds  # type: ignore[method-assign]
    async with Peer(device.talk) as peer:
        offset = await client(peer).measure_clock(samples=20)
    assert offset.samples == 20
    assert opened[0] <= 8
    assert opened[-1] == 20
    assert offset.resolution >= 0.001
    assert abs(offset.offset) <= offset.bound


async def test_clock_measurement_keeps_samples_when_the_device_is_lost() -> None:
    device = Android()

    def last_words(command: object) -> bytes:
        peer.vanish()  # what is open stays open
        return b'{"deviceId":"a","status":"ready","timestamp":%f}' % time.time()

    device.obey = last_words  # type: ignore[method-assign]
    async with Peer(device.talk) as peer:
        offset = await client(peer, retries=0).measure_clock(samples=20)
    assert offset.samples == 8
    assert abs(offset.offset) <= offset.bound


async def test_connect_remembers_the_address_that_accepts() -> None:
    async with Peer(Android().talk) as peer:
        controller = MultiCamClient(["127.0.0.9", "::1", "127.0.0.1"], peer.port, timeout=5.0)
        assert (await controller.device_status()).status == "ready"
        assert controller.hosts == ("127.0.0.1", "127.0.0.9", "::1")
        assert controller.address == f"multicam://127.0.0.1:{peer.port}"


async def test_ipv6() -> None:
    async with Peer(Android().talk, host="::1") as peer:
        controller = MultiCamClient("::1", peer.port, timeout=5.0)
        assert (await controller.device_status()).status == "ready"
        assert controller.address == f"multicam://[::1]:{peer.port}"


async def test_follow_a_device_to_another_address() -> None:
    async with Peer(Android().talk) as old, Peer(Oak().talk) as new:
        controller = client(old)
        assert (await controller.device_status()).deviceId == "Mountain-A1B2C3D4"
        controller.follow("127.0.0.1", new.port)
        assert (await controller.device_status()).deviceId == "3f2c-oak"


@pytest.mark.parametrize(
    ("host", "port"), [("", 8080), ([], 8080), (["127.0.0.1", ""], 8080), ("127.0.0.1", 0), ("::1", 70000)]
)
def test_invalid_device_address_is_refused(host: str | list[str], port: int) -> None:
    with pytest.raises(UsageError):
        MultiCamClient(host, port)
    controller = MultiCamClient("127.0.0.1")
    with pytest.raises(UsageError):
        controller.follow(host, port)


def test_impossible_options_are_refused() -> None:
    with pytest.raises(UsageError):
        MultiCamClient("h", timeout=0)
    with pytest.raises(UsageError):
        MultiCamClient("h", retries=-1)
