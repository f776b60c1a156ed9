"""The media client against a server that behaves, and dies, as the maker's."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from asynccam.errors import (
    AsynccamError,
    AuthenticationError,
    BusyError,
    ConnectionError,
    DamagedFileError,
    DeviceError,
    RemoteProtocolError,
    StateError,
    StorageError,
    TimeoutError,
    TransferError,
    UsageError,
)
from asynccam.recording import Verdict, verify_file
from asynccam.systems.nanocam.client import MediaClient
from asynccam.systems.nanocam.client_session import ClientTimeouts
from asynccam.systems.nanocam.protocol import (
    Busy,
    FileEntry,
    FileListing,
    Finished,
    Ok,
    Refused,
    encode_framed,
    encode_names,
)
from tests.support.cancelling import cancelled_at
from tests.support.gst import LAUNCH, free_udp_port, rtp_sender
from tests.support.jpegs import BROKEN, jpeg_of_kind, picture_in
from tests.support.nanocam_media import box, comment, jpeg, mp4
from tests.support.nanocam_original_server import OriginalServer, original_server
from tests.support.parts import contents, sha256
from tests.support.waiting import eventually

PLANTED = b"\xff\xd8" + comment(b"MORE QUIT DONE BUSY OK") + jpeg(4)[2:]
PICTURES = [
    ("/home/media/2020-07-29 14:54:15.jpg", jpeg(1)),
    ("/home/media/../../2020-07-29 14:54:20.jpg", PLANTED),
    ("2020-07-29 14:54:25.jpg", jpeg(2)),
]
LOCAL = {
    "2020-07-29 14+54+15.jpg": jpeg(1),
    "2020-07-29 14+54+20.jpg": PLANTED,
    "2020-07-29 14+54+25.jpg": jpeg(2),
}
PATIENT = ClientTimeouts(stall=20, quiet=0.2)


def client_of(server: OriginalServer, path: Path, **options: Any) -> MediaClient:
    options = {"media_port": free_udp_port(), "timeouts": PATIENT, **options}
    return MediaClient("127.0.0.1", server.port, media_path=path / "media", **options)


@pytest.fixture
async def server() -> AsyncIterator[OriginalServer]:
    async with original_server(pictures=PICTURES, videos=[("/home/media/a.mp4", mp4())]) as one:
        yield one
        assert one.died is None


@pytest.fixture
async def client(server: OriginalServer, tmp_path: Path) -> AsyncIterator[MediaClient]:
    async with client_of(server, tmp_path) as one:
        yield one


async def test_makers_example(server: OriginalServer, tmp_path: Path) -> None:
    client = MediaClient()
    client.set_msg_port(server.port)
    client.set_hostip("127.0.0.1")
    client.set_media_path(str(tmp_path / "media"))
    client.set_media_port(free_udp_port())
    await client.connect()
    await client.connect()  # harmless
    names, arrays = await client.image_request(3, 5, width=1920, height=1080, display=True, override=True)
    assert [path.name for path in names] == list(LOCAL)
    assert [array.shape for array in arrays] == [(48, 48, 3)] * 3
    assert contents(tmp_path / "media") == LOCAL
    assert [one.sha256 for one in client.received] == [sha256(data) for data in LOCAL.values()]
    assert [one.source for one in client.received] == [name for name, _ in PICTURES]
    names, arrays = await client.video_request(
        10, width=1920, height=1080, display=True, override=True, src="file"
    )
    assert [path.read_bytes() for path in names] == [mp4()]
    assert len(arrays) == 15
    assert client.framed is False
    await client.aclose()
    await client.aclose()
    await eventually(lambda: server.heard[-1] == b"GOODBYE", 10)
    plain = [{key: one[key] for key in one if key != "asynccam"} for one in server.requests()]
    size = {"width": 1920, "height": 1080, "format": "file"}
    assert plain == [
        {"type": "image", "frames": 3, "interval": 5, **size},
        {"type": "video", "duration": 10, **size},
    ]


async def test_no_digest_unless_requested(server: OriginalServer, tmp_path: Path) -> None:
    async with client_of(server, tmp_path, digest=False) as client:
        assert (await client.fetch_video(1)).sha256 == ""


async def test_no_arrays_without_display(client: MediaClient) -> None:
    assert (await client.image_request(1, 1))[1] == []


async def test_fractional_interval_is_rounded_up(server: OriginalServer, client: MediaClient) -> None:
    await client.fetch_images(1, 0.4)
    assert server.requests()[0]["interval"] == 1
    with pytest.raises(UsageError):
        await client.fetch_images(1, 0)
    with pytest.raises(UsageError):
        await client.video_request(1, src="tape")  # type: ignore[arg-type]  # what a caller may get wrong
    assert len(server.heard) == 1


async def test_large_video_is_spliced(tmp_path: Path) -> None:
    content = b"QUIT" * (1 << 20)
    video = box(b"ftyp", b"isom") + box(b"mdat", content) + box(b"moov", b"MORE")
    told: list[tuple[int, int | None]] = []
    async with (
        original_server(videos=[("a.mp4", video)], piece=65536) as server,
        client_of(server, tmp_path) as client,
    ):
        file = await client.fetch_video(1, progress=lambda done, total: told.append((done, total)))
        assert file.sha256 == sha256(video)
        assert file.path.read_bytes() == video
        assert told[-1] == (len(video), None)
        assert (await client.fetch_video(1)).path.name == "a-1.mp4", "nothing is written over"
    assert server.died is None


# -- busy, override, kill ---------------------------------------------------------------------------


async def test_busy_without_override(server: OriginalServer, client: MediaClient) -> None:
    server.begin_stream(600)
    for request in (client.image_request(1, 1), client.video_request(1), client.video_request(1, src="udp")):
        with pytest.raises(BusyError):
            await request
    assert server.streaming
    server.end_stream()
    assert len((await client.image_request(1, 1))[0]) == 1, "the connection is still of use"


async def test_override_for_files_keeps_it_alive(server: OriginalServer, client: MediaClient) -> None:
    server.begin_stream(600)
    assert len((await client.image_request(3, 1, override=True))[0]) == 3
    server.begin_stream(600)
    assert len((await client.video_request(1, override=True))[0]) == 1
    kinds = [one["type"] for one in server.requests()]
    assert kinds.count("kill") == 2


async def test_kill_keeps_the_original_alive(server: OriginalServer, client: MediaClient) -> None:
    await client.kill()  # nothing runs
    server.end_stream()
    server.begin_stream(600)
    await client.kill()
    assert server.died is None
    await eventually(lambda: not server.streaming, 10)


async def test_timer_reset_needs_a_running_stream(server: OriginalServer, client: MediaClient) -> None:
    with pytest.raises(StateError):
        await client.send_timer_reset(5)
    server.begin_stream(600)  # somebody else's: whether it still runs cannot be known
    with pytest.raises(StateError):
        await client.send_timer_reset(5)
    assert server.heard == []


# -- streams ----------------------------------------------------------------------------------------


async def test_stream_extended_and_killed(tmp_path: Path) -> None:
    port = free_udp_port()
    async with (
        original_server(stream=(LAUNCH, "-q", *rtp_sender(port))) as server,
        client_of(server, tmp_path, media_port=port) as client,
    ):
        receiving = asyncio.create_task(client.video_request(60, src="udp", display=True))
        await eventually(lambda: any((tmp_path / "media").glob("*.mp4")), 30)
        with pytest.raises(StateError):
            await client.video_request(1, src="udp")
        await client.send_timer_reset(30)
        assert server.requests()[-1]["duration"] == "30"
        await eventually(
            lambda: client._recorder is not None and client._recorder.first_frame_at is not None, 30
        )
        await client.kill()
        (path,), arrays = await receiving
        verdict = await verify_file(path)
        assert verdict.verdict is Verdict.COMPLETE
        assert len(arrays) == verdict.frames
    assert server.died is None


async def test_cancelled_stream_leaves_a_complete_file(tmp_path: Path) -> None:
    port = free_udp_port()
    async with (
        original_server(stream=(LAUNCH, "-q", *rtp_sender(port))) as server,
        client_of(server, tmp_path, media_port=port) as client,
    ):
        receiving = asyncio.create_task(client.video_request(60, src="udp"))
        await eventually(
            lambda: client._recorder is not None and client._recorder.first_frame_at is not None, 30
        )
        receiving.cancel()
        await asyncio.wait({receiving})
        assert receiving.cancelled()
        (path,) = (tmp_path / "media").iterdir()
        assert (await verify_file(path)).verdict is Verdict.COMPLETE
    assert server.died is None


async def test_override_replaces_a_stream(tmp_path: Path) -> None:
    port = free_udp_port()
    async with (
        original_server(stream=(LAUNCH, "-q", *rtp_sender(port))) as server,
        client_of(server, tmp_path, media_port=port) as client,
    ):
        server.begin_stream(600)
        (path,), _ = await client.video_request(1, src="udp", override=True)
        assert (await verify_file(path)).verdict is Verdict.COMPLETE
        assert [one["type"] for one in server.requests()] == ["video", "kill"]
    assert server.died is None


async def test_hls(tmp_path: Path) -> None:
    port = free_udp_port()
    playlist, segments = tmp_path / "public" / "stream0.m3u8", tmp_path / "public" / "fragment%05d.ts"
    async with (
        original_server(stream=(LAUNCH, "-q", *rtp_sender(port))) as server,
        client_of(server, tmp_path, media_port=port) as client,
    ):
        verdicts = await client.hls_request(
            3, "http://localhost/", playlist, segments, hls_len=10, hls_maxfiles=10, hls_duration=1
        )
        assert verdicts[0].path.name == "fragment00000.ts"
        assert sum(one.frames or 0 for one in verdicts) > 0
        assert "http://localhost/fragment00000.ts" in playlist.read_text()
        with pytest.raises(AsynccamError):
            await client.hls_request(1, "http://localhost/", playlist, segments)
        with pytest.raises(UsageError, match="number"):
            await client.hls_request(1, "http://localhost/", playlist, tmp_path / "a.ts")


async def test_stream_never_arrives(server: OriginalServer, tmp_path: Path) -> None:
    async with client_of(server, tmp_path, timeouts=ClientTimeouts(first_frame=0.5)) as client:
        with pytest.raises(TimeoutError, match="first frame"):
            await client.video_request(60, src="udp")
        assert contents(tmp_path / "media") == {}


# -- peers that vanish ------------------------------------------------------------------------------


async def test_no_server(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    client = MediaClient("127.0.0.1", port, media_path=tmp_path)
    with pytest.raises(StateError):
        await client.image_request(1, 1)
    with pytest.raises(ConnectionError):
        await client.connect()
    with pytest.raises(StateError, match="set_hostip"):
        await MediaClient().connect()


@pytest.mark.parametrize("cut", [0, 3, 60, 200, 900, 2000])
async def test_server_closes_the_connection(cut: int, tmp_path: Path) -> None:
    async with (
        original_server(pictures=PICTURES[:1], cut=cut) as server,
        client_of(server, tmp_path) as client,
    ):
        with pytest.raises((ConnectionError, TransferError)) as caught:
            await client.image_request(1, 1)
        if isinstance(caught.value, TransferError):
            assert caught.value.part is None or jpeg(1).startswith(caught.value.part.read_bytes())
        assert client.received == []
        with pytest.raises(ConnectionError):  # it is not there any more, and that is said
            await client.image_request(1, 1)


async def test_silent_server_times_out(tmp_path: Path) -> None:
    async with original_server(gate=asyncio.Event()) as server:
        timeouts = ClientTimeouts(capture=0.2, leave=0.2)
        async with client_of(server, tmp_path, timeouts=timeouts) as client:
            with pytest.raises(TimeoutError) as caught:
                await client.video_request(0.1)
            assert caught.value.maybe_executed


async def test_lost_connection_is_made_again(server: OriginalServer, client: MediaClient) -> None:
    await client.image_request(1, 1)
    link = client._session._connection
    assert link is not None
    link._sock.shutdown(socket.SHUT_RDWR)
    with pytest.raises(ConnectionError):
        await client.image_request(1, 1)
    assert len((await client.image_request(1, 1))[0]) == 1
    assert server.clients == 2


async def test_unwritable_directory_is_found_before_the_request(
    server: OriginalServer, tmp_path: Path
) -> None:
    (tmp_path / "media").write_bytes(b"a file")
    async with client_of(server, tmp_path) as client:
        with pytest.raises(StorageError):
            await client.image_request(1, 1)
    assert server.requests() == []


# -- cancellation -----------------------------------------------------------------------------------


async def test_cancelled_request_is_drained_before_the_next(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with original_server(pictures=PICTURES, gate=gate) as server, client_of(server, tmp_path) as client:
        request = asyncio.create_task(client.image_request(2, 1))
        await server.capturing.wait()
        request.cancel()
        await asyncio.wait({request})
        assert request.cancelled()
        gate.set()
        names, _ = await client.image_request(3, 1)
        assert contents(tmp_path / "media") == LOCAL
        assert len(names) == 3
    assert server.died is None
    assert server.clients == 1


async def test_close_waits_for_a_capture(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with original_server(pictures=PICTURES, gate=gate) as server:
        client = client_of(server, tmp_path)
        await client.connect()
        request = asyncio.create_task(client.image_request(1, 1))
        await server.capturing.wait()
        request.cancel()
        await asyncio.wait({request})
        leaving = asyncio.create_task(client.aclose())
        gate.set()
        await leaving
        await eventually(lambda: server.heard[-1] == b"GOODBYE", 10)
    assert server.died is None


async def test_cancelled_at_every_await(tmp_path: Path) -> None:
    async with original_server(pictures=PICTURES, videos=[("a.mp4", mp4())]) as server:
        for count in range(1, 200):
            folder = tmp_path / str(count)

            async def request(folder: Path = folder) -> None:
                async with client_of(server, folder) as client:
                    await client.image_request(2, 1)

            cancelled = await cancelled_at(request(), count)
            assert server.died is None, count
            for path in (folder / "media").glob("*") if folder.exists() else ():
                whole = LOCAL[path.name.removesuffix(".part")]
                assert whole.startswith(path.read_bytes())
                assert path.suffix == ".part" or path.read_bytes() == whole
            if not cancelled:
                break
        else:
            raise AssertionError("it never came to its end")
        assert server.died is None


# -- servers of our own, and of somebody else -------------------------------------------------------


class Scripted:
    """Answers each request with the next of its answers."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)
        self.heard: list[bytes] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1024):
                self.heard.append(data)
                if self.answers:
                    writer.write(self.answers.pop(0))
        finally:
            writer.close()


@pytest.fixture
async def scripted() -> AsyncIterator[Any]:
    servers: list[asyncio.Server] = []

    async def start(*answers: bytes) -> Scripted:
        script = Scripted(*answers)
        servers.append(await asyncio.start_server(script.serve, "127.0.0.1", 0))
        script.port = servers[-1].sockets[0].getsockname()[1]
        return script

    yield start
    for one in servers:
        one.close()
        await one.wait_closed()


def framed(files: dict[str, bytes]) -> bytes:
    listed = FileListing(tuple(FileEntry(name, len(data)) for name, data in files.items()))
    return encode_framed(listed) + b"".join(files.values()) + encode_framed(Finished())


async def test_framed_server(scripted: Any, tmp_path: Path) -> None:
    refused = [Refused("request", "r"), Refused("busy", "b"), Refused("token", "t"), Refused("capture", "c")]
    server = await scripted(
        framed({"a:b.raw": b"MORE", "../b.raw": b""}),
        *map(encode_framed, refused),
        encode_framed(Busy()),
        encode_framed(Ok()) + framed({"c.raw": b"c"}),
        encode_framed(Ok()),
        encode_framed(Ok()),
    )
    async with client_of(server, tmp_path, token="secret") as client:
        await client.image_request(2, 0.25)
        assert client.framed
        assert contents(tmp_path / "media") == {"a+b.raw": b"MORE", "b.raw": b""}
        for error in (DeviceError, BusyError, AuthenticationError, DeviceError):
            with pytest.raises(error):
                await client.image_request(1, 1)
        assert len((await client.image_request(1, 1, override=True))[0]) == 1
        await client.send_timer_reset(5)
        await client.kill()
    first = json.loads(server.heard[0])
    assert first["asynccam"] == {
        "v": 1,
        "token": "secret",
        "port": first["asynccam"]["port"],
        "interval": 0.25,
    }


async def test_framed_server_refuses_override(scripted: Any, tmp_path: Path) -> None:
    server = await scripted(*[encode_framed(Busy())] * 2)
    async with client_of(server, tmp_path) as client:
        with pytest.raises(BusyError, match="does not let"):
            await client.image_request(1, 1, override=True)


@pytest.mark.parametrize("kind", BROKEN)
async def test_damaged_picture_keeps_the_others(scripted: Any, tmp_path: Path, kind: str) -> None:
    good, spoiled = jpeg(1), jpeg_of_kind(kind)
    lead = jpeg_of_kind("leadzero")
    files = {"a.jpg": good, "b.jpg": spoiled, "c.JPG": lead, "d.jpeg": good}
    server = await scripted(framed(files), encode_framed(Ok()))
    async with client_of(server, tmp_path) as client:
        with pytest.raises(DamagedFileError, match=r"b\.jpg is a broken picture: it ") as raised:
            await client.image_request(4, 0.25)
        await client.send_timer_reset(5)  # the conversation goes on
        home = {one.path.name: one.size for one in client.received}
    assert home == {"a.jpg": len(good), "c.JPG": len(picture_in("leadzero")), "d.jpeg": len(good)}
    assert raised.value.part is not None
    assert (raised.value.part.name, raised.value.received) == ("b.jpg.part", len(spoiled))
    expected = {"a.jpg": good, "b.jpg.part": spoiled, "c.JPG": picture_in("leadzero"), "d.jpeg": good}
    assert contents(tmp_path / "media") == expected


async def test_hostile_names_stay_in_the_directory(scripted: Any, tmp_path: Path) -> None:
    names = ["../../evil.jpg", "/etc/evil.jpg", "..", "", "a\\..\\evil.jpg", "\n\0.jpg"]
    data = encode_names(names) + b"MORE".join([jpeg(1)] * len(names)) + b"QUIT"
    server = await scripted(data)
    async with client_of(server, tmp_path) as client:
        files, _ = await client.image_request(len(names), 1)
    assert {path.parent for path in files} == {tmp_path / "media"}
    assert len(list((tmp_path / "media").iterdir())) == len(names)
    assert [path.name for path in tmp_path.iterdir()] == ["media"]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"HTTP/1.1 400", RemoteProtocolError),
        (b"cos\nsystem\n(S'true'\ntR.", RemoteProtocolError),
        (b"\x80\x02]cos\nsystem\n", RemoteProtocolError),
        (b"\x80\x02]K\x01a.DONE", RemoteProtocolError),
        (b"OK", RemoteProtocolError),
        (b"\x80\x02].DONE", DeviceError),
    ],
)
async def test_invalid_responses(
    answer: bytes, error: type[Exception], scripted: Any, tmp_path: Path
) -> None:
    server = await scripted(answer)
    async with client_of(server, tmp_path) as client:
        with pytest.raises(error):
            await client.image_request(1, 1)
    assert contents(tmp_path / "media") == {}


async def test_file_without_an_end_marker(scripted: Any, tmp_path: Path) -> None:
    server = await scripted(encode_names(["a.png"]) + b"\x89PNG of QUIT" + b"QUIT")
    async with client_of(server, tmp_path) as client:
        ((path,), arrays) = await client.image_request(1, 1, display=True)
    assert path.read_bytes() == b"\x89PNG of QUIT"
    assert arrays == [], "which is no picture"


def test_timeouts_are_above_0() -> None:
    with pytest.raises(UsageError):
        ClientTimeouts(quiet=0)
