"""Trouble on purpose: each switch of the simulated service does what it says, and no more."""

import asyncio
import json
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest

from tests.support.mediamtx_service import simulator, talker
from tests.support.waiting import eventually, outlasting

DATA = aiohttp.WSMsgType.TEXT


async def test_silent_method_is_neither_executed_nor_answered(tmp_path: Path) -> None:
    async with simulator(2, directory=tmp_path) as service, talker(service) as one:
        service.faults.silent = frozenset({"start_recording"})
        await one.send("start_recording", device="camera0")
        assert await one.ask("ping") == "pong"
        assert service.cameras["camera0"].recording is None


async def test_cut_answer_ends_in_mid_frame_after_the_call_was_executed(
    tmp_path: Path,
) -> None:
    async with simulator(2, directory=tmp_path) as service:
        service.faults.cut_answers = frozenset({"start_recording"})
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        try:
            writer.write(
                b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            )
            assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
            params = {1: {"auth_token": service.token()}, 2: {"device": "camera0"}}
            for number, method in ((1, "authenticate"), (2, "start_recording")):
                call = {"jsonrpc": "2.0", "id": number, "method": method, "params": params[number]}
                text = json.dumps(call).encode()
                # A masked text frame; with a mask of zeros the payload is what it is.
                size = (
                    b"\xfe" + len(text).to_bytes(2, "big") if len(text) > 125 else bytes([0x80 | len(text)])
                )
                writer.write(b"\x81" + size + bytes(4) + text)
            got = b""
            with suppress(ConnectionResetError):
                while data := await reader.read(4096):
                    got += data
        finally:
            writer.close()
        _, _, last = got.rpartition(b"\x81\x7e")
        rest = last[2:]
        assert 0 < len(rest) == int.from_bytes(last[:2], "big") // 2
        assert rest.startswith(b'{"jsonrpc": "2.0", "result": {"device": "camera0"')
        assert service.cameras["camera0"].recording is not None
        async with talker(service) as one:
            assert await one.code("start_recording", device="camera0") == -32020  # a refusal comes whole


async def test_answers_come_late_and_twice_and_odd() -> None:
    async with simulator(2, clip=None) as service, talker(service) as one:
        service.faults.answer_delay = 0.1
        with outlasting(0.1):
            assert await one.ask("ping") == "pong"
        service.faults.answer_delay = 0.0

        service.faults.answer_twice = True
        request = await one.send("ping")
        assert (
            (await one.receive())
            == (await one.receive())
            == {"jsonrpc": "2.0", "id": request, "result": "pong"}
        )
        service.faults.answer_twice = False

        service.faults.string_ids = service.faults.metadata = True
        request = await one.send("ping")
        answer = await one.receive()
        assert answer["id"] == str(request)
        assert answer["metadata"]["server"] == "simulated"
        service.faults.string_ids = service.faults.metadata = False

        service.faults.binary = True
        request = await one.send("ping")
        message = await one.socket.receive(timeout=5)
        assert message.type is aiohttp.WSMsgType.BINARY
        assert json.loads(message.data)["id"] == request


async def test_garbage_goes_ahead_of_every_answer() -> None:
    async with simulator(1, clip=None) as service, talker(service) as one:
        service.faults.garbage = True
        request = await one.send("ping")
        texts = [await one.socket.receive_str(timeout=5) for _ in range(5)]
        with pytest.raises(ValueError, match="Expecting value"):
            json.loads(texts[0])
        documents = [json.loads(text) for text in texts[1:]]
        assert documents[0]["id"] not in (None, request)
        assert documents[1]["id"] is None
        assert isinstance(documents[2], list)
        assert documents[3]["result"] == "pong"


async def test_frozen_service_neither_reads_nor_sends() -> None:
    async with simulator(1, clip=None) as service, talker(service) as one:
        await one.socket.ping(b"awake?")
        assert (await one.socket.receive(timeout=5)).type is aiohttp.WSMsgType.PONG
        service.freeze()
        await one.send("ping")
        await one.socket.ping(b"awake?")
        service.add_camera()
        with pytest.raises(TimeoutError):
            await one.socket.receive(timeout=0.2)
        service.thaw()
        kinds = {(await one.socket.receive(timeout=5)).type for _ in range(3)}
        assert kinds == {DATA, aiohttp.WSMsgType.PONG}


async def test_connections_are_dropped_without_a_close_frame() -> None:
    async with simulator(1, clip=None) as service, talker(service) as one, talker(service) as two:
        service.drop()
        assert [await one.closed(), await two.closed()] == [1006, 1006]
        await eventually(lambda: service.connections == 0)


@pytest.mark.parametrize("code", [1001, 1008, 1009, 1013])
async def test_connections_are_closed_with_a_code(code: int) -> None:
    async with simulator(1, clip=None) as service, talker(service) as one:
        async with asyncio.TaskGroup() as group:
            group.create_task(service.close(code, "because"))
            message = await one.socket.receive(timeout=5)
        assert (message.type, message.data, message.extra) == (aiohttp.WSMsgType.CLOSE, code, "because")


async def test_restart_keeps_port_and_files_with_other_cameras(tmp_path: Path) -> None:
    async with simulator(2, directory=tmp_path, http_port=0) as service:
        ports = (service.port, service.http_port)
        assert ports[0] != ports[1]
        async with talker(service) as one:
            await one.ask("start_recording", device="camera0")
            await service.restart(cameras=["A", "B", "C"])
            assert await one.closed() == 1006
        assert (service.port, service.http_port) == ports
        async with talker(service) as one:
            cameras = (await one.ask("get_camera_list"))["cameras"]
            assert [camera["name"] for camera in cameras] == ["A", "B", "C"]
            assert (await one.ask("list_recordings"))["total"] == 1
            assert (await one.ask("start_recording", device="camera0"))["status"] == "STARTED"


async def test_client_that_never_reads_delays_no_other() -> None:
    async with simulator(1, clip=None) as service, talker(service) as sleeper, talker(service) as one:
        payload = {"device": "/dev/video0", "status": "CONNECTED", "name": "x" * 100_000}
        for number in range(200):  # 20 MB, more than socket buffers hold
            service.tell("camera.status_change", {**payload, "sequence": number})
        got = [(await one.notice())["params"]["sequence"] for _ in range(200)]
        assert got == list(range(200))
        assert not sleeper.notices


async def test_calls_of_a_client_that_left_are_carried_out_to_the_end(tmp_path: Path) -> None:
    async with simulator(2, directory=tmp_path) as service:
        service.cameras["camera0"].stream_ready.clear()
        async with talker(service) as one:
            await one.send("start_recording", device="camera0")
            await eventually(lambda: service.cameras["camera0"].starting)
        await eventually(lambda: service.connections == 0)
        service.cameras["camera0"].stream_ready.set()
        await eventually(lambda: service.cameras["camera0"].recording)


async def test_stop_during_calls_leaves_nothing_running(tmp_path: Path) -> None:
    async with simulator(1, directory=tmp_path) as service:
        service.cameras["/dev/video0"].stream_ready.clear()
        service.faults.answer_delay = 30.0
        async with talker(service, None) as one:
            await one.send("start_recording", device="/dev/video0", auth_token=service.token())
            await one.send("ping")
            await eventually(lambda: service.cameras["/dev/video0"].starting)
            service.freeze()
            async with asyncio.timeout(20):
                await service.stop()
