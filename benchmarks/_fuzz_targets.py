"""The parsers that `benchmarks.fuzz` tries, each with real files or traffic to begin from."""

import asyncio
import functools
import json
import os
import struct
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from asynccam.bridge.take_request import parse_take_request
from asynccam.errors import AsynccamError
from asynccam.model.address import Address
from asynccam.model.filenames import safe_name
from asynccam.model.manifest import Manifest
from asynccam.net.jsonrpc_codec import JsonRpcCodec, Result
from asynccam.net.sntp import build_request, echoed_nonce, parse_reply
from asynccam.recording import frame_times, verify_file
from asynccam.recording.bus_messages import LaunchReader
from asynccam.recording.containers.jpeg import find_picture
from asynccam.recording.containers.reader import FileView
from asynccam.recording.containers.scan import scan_file
from asynccam.recording.jpeg_filter import JpegFilter
from asynccam.session import Fleet
from asynccam.systems.mediamtx.events import parse_notification
from asynccam.systems.mediamtx.models import AuthenticationResult, CameraList, FileList, RecordingInfo, Report
from asynccam.systems.multicam.models import StatusResponse, StopRecordingResponse
from asynccam.systems.multicam.protocol import (
    CommandReader,
    FileReader,
    ResponseReader,
    parse_list,
)
from asynccam.systems.nanocam.csi.frames import GdpFrameReader as PictureReader
from asynccam.systems.nanocam.protocol import RequestReader
from asynccam.systems.nanocam.reply_parser import ReplyReader
from asynccam.systems.nanocam.safe_pickle import PickleReader, write_names
from asynccam.systems.snapshot import read_imu
from asynccam.systems.snapshot.models import parse_cameras as parse_snapshot_cameras
from asynccam.systems.snapshot.models import parse_page, parse_result, parse_results
from asynccam.systems.snapshot.server.settings import ConfigFile
from asynccam.systems.thorvision.metadata import read_metadata
from asynccam.systems.thorvision.models import parse_cameras, parse_hot_plug, parse_names, parse_version
from asynccam.take.store import read_journal, replay
from tests.support.media_corpus.cache import base_bytes
from tests.support.media_corpus.recipes import BASES

PROJECT: Final = Path(__file__).parents[1]
_QUIET: Final = threading.Event()


@dataclass(frozen=True)
class Target:
    """One parser.

    Attributes:
        name: Its name in reports and options.
        run: Parses one case; given the case, and a path to a file that holds it if ``on_disk``.
        seeds: Makes the cases to begin from.
        on_disk: The parser reads a file; its value is the file's ending.
        text: Cases are changed as JSON or text too, and not as bytes alone.
        runner: The loop to run it in, for parsers that are awaited.
    """

    name: str
    run: Callable[[bytes, Path], object]
    seeds: Callable[[], Sequence[bytes]]
    on_disk: str = ""
    text: bool = False


def awaited(function: Callable[[Path], Awaitable[object]]) -> Callable[[bytes, Path], object]:
    """Wrap a parser that is awaited; all share one loop, which `close_loop` ends."""

    async def call(path: Path) -> object:
        return await function(path)

    return lambda data, path: _runner().run(call(path))


@functools.cache
def _runner() -> asyncio.Runner:
    return asyncio.Runner()


def close_loop() -> None:
    """End the loop that awaited parsers ran in, with its threads."""
    _runner().close()
    _runner.cache_clear()


def _scan(data: bytes, path: Path) -> object:
    with FileView(path, _QUIET) as view:
        return scan_file(view)


async def _all_frame_times(path: Path) -> int:
    return sum([1 async for _ in frame_times(path)])


def _fed(make: Callable[[], Any]) -> Callable[[bytes, Path], object]:
    """Feed a reader in two pieces and then end its stream."""

    def run(data: bytes, path: Path) -> object:
        reader = make()
        middle = len(data) * 5 // 8
        for piece in (data[:middle], data[middle:]):
            for _ in reader.feed(piece) or ():
                pass
        end = getattr(reader, "eof", None) or getattr(reader, "conclude", None)
        return end() if end is not None else None

    return run


def _each(*parsers: Callable[[bytes], object]) -> Callable[[bytes, Path], object]:
    """Give one case to several parsers; an error of one leaves the others their turn."""

    def run(data: bytes, path: Path) -> object:
        for parse in parsers:
            try:
                parse(data)
            except AsynccamError:
                continue
        return None

    return run


def _named(parse: Callable[[bytes, str], object]) -> Callable[[bytes], object]:
    return lambda data: parse(data, "fuzz")


def _rpc(data: bytes, path: Path) -> object:
    caller = JsonRpcCodec()
    caller.request("get_camera_list")
    for event in caller.receive(data):
        method = getattr(event, "method", None)
        try:
            if isinstance(event, Result):
                for model in (CameraList, FileList, RecordingInfo, AuthenticationResult, Report):
                    _read_model(model, event.value)
            elif isinstance(method, str):
                parse_notification(method, getattr(event, "params", None))
        except AsynccamError:
            continue
    return None


def _read_model(model: Any, value: object) -> None:
    try:
        model.read(value, method="fuzz")
    except AsynccamError:
        return


def _journal(data: bytes, path: Path) -> object:
    head, _, rest = data.partition(b"\0")
    try:
        manifest = Manifest.from_bytes(head)
    except AsynccamError:
        manifest = None
    left = replay(manifest, read_journal(rest), "fuzz")
    return left.manifest.to_bytes(), left.is_settled


def _sntp(data: bytes, path: Path) -> object:
    try:
        return echoed_nonce(data)
    except AsynccamError:
        return parse_reply(data, 7)


def _as_text(parse: Callable[[str], object]) -> Callable[[bytes, Path], object]:
    return lambda data, path: parse(data.decode("utf-8", "surrogateescape"))


async def _config(path: Path) -> object:
    async with ConfigFile(path) as config:
        return config.cameras


def _media(*endings: str) -> Callable[[], Sequence[bytes]]:
    names = [recipe.name for recipe in BASES if recipe.name.endswith(endings)]
    return lambda: [base_bytes(name) for name in names]


def _json(*documents: object) -> Callable[[], Sequence[bytes]]:
    return lambda: [json.dumps(document).encode() for document in documents]


def _takes(name: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted((PROJECT / "tests/take/data").rglob(name))]


def _journals() -> Sequence[bytes]:
    manifests = _takes("manifest.json")
    return [b"\0".join((manifests[0], _JOURNAL)), b"\0" + _JOURNAL, *(one + b"\0" for one in manifests)]


_JOURNAL: Final = (
    b'{"at":1796000000.0,"event":"created","line":0,"elapsed":10.5,"boot":"b","version":2,"name":"t",'
    b'"cameras":[{"id":"a","name":"a","system":"multicam","address":"multicam://127.0.0.1:1","model":"m",'
    b'"directory":"a"}]}\n'
    b'{"at":1796000001.0,"event":"starting","line":1,"t0":1796000002.0,"start_in":1.0,"cameras":["a"]}\n'
    b'{"at":1796000002.0,"event":"released","line":2,"t0":1796000002.0}\n'
    b'{"at":1796000003.0,"event":"stopping","line":3}\n'
    b'{"at":1796000004.0,"event":"stopped","line":4,"camera":"a","files":["v.mp4"]}\n'
)
_STATUS: Final = {
    "deviceId": "Mountain-A1B2C3D4",
    "status": "Recording in progress",
    "timestamp": 1729000000.123,
    "isRecording": True,
    "message": None,
    "batteryLevel": 71.5,
    "uploadQueue": [{"fileName": "v.mp4", "fileSize": 7, "status": "uploading", "uploadUrl": "http://h/x"}],
}
_STOPPED: Final = {
    "deviceId": "d",
    "status": "recording_stopped",
    "timestamp": 1.5,
    "fileName": "video_1729000000.mp4",
    "fileSize": 12,
}
_LISTED: Final = {
    "deviceId": "d",
    "status": "ready",
    "timestamp": 1.5,
    "files": [
        {"fileId": "d_1", "fileName": "d_1.mov", "fileSize": 10, "creationDate": 1.5, "modificationDate": 2}
    ],
}
_HEADER: Final = {"deviceId": "d", "fileId": "d_1", "fileName": "d_1.mov", "fileSize": 12, "status": "ready"}
_COMMAND: Final = {
    "command": "START_RECORDING",
    "timestamp": 1729000000.5,
    "deviceId": "controller",
    "fileName": "v.mp4",
    "uploadUrl": "http://[::1]:8080/put?x=1",
}


def _prefixed(document: object, rest: bytes = b"") -> bytes:
    body = json.dumps(document).encode()
    return struct.pack(">I", len(body)) + body + rest


_RPC: Final = (
    {
        "jsonrpc": "2.0",
        "id": 1,
        "result": {
            "cameras": [
                {
                    "device": "/dev/video0",
                    "status": "CONNECTED",
                    "name": "c",
                    "resolution": "1920x1080",
                    "fps": 30,
                    "streams": {"rtsp": "rtsp://h:8554/camera0"},
                    "metrics": {"bytes_sent": 1, "readers": 0, "uptime": 3},
                }
            ],
            "total": 1,
            "connected": 1,
        },
    },
    {"jsonrpc": "2.0", "id": 1, "error": {"code": -32003, "message": "no", "data": {"reason": "x"}}},
    {
        "jsonrpc": "2.0",
        "method": "camera_status_update",
        "params": {"device": "/dev/video0", "status": "CONNECTED"},
    },
    {
        "jsonrpc": "2.0",
        "method": "recording_status_update",
        "params": {
            "device": "camera0",
            "status": "STARTED",
            "filename": "camera0_2025-01-15_14-30-00.mp4",
            "duration": 3600,
        },
    },
    {
        "jsonrpc": "2.0",
        "id": 1,
        "result": {
            "files": [
                {
                    "filename": "a.mp4",
                    "file_size": 7,
                    "modified_time": "2025-01-15T14:30:00Z",
                    "download_url": "/files/recordings/a.mp4",
                }
            ],
            "total": 1,
            "limit": 10,
            "offset": 0,
        },
    },
    {
        "jsonrpc": "2.0",
        "id": 1,
        "result": {
            "authenticated": True,
            "role": "operator",
            "permissions": ["view"],
            "expires_at": "2025-01-16T14:30:00Z",
            "session_id": "550e8400",
        },
    },
)
_THOR_CAMERAS: Final = [
    {
        "id": 0,
        "name": "Camera 0",
        "device_id": "sim-0",
        "caps": [
            {"media_type": "image/jpeg", "format": None, "width": 640, "height": 480, "framerate": "30/1"}
        ],
    }
]
_SNAPSHOT_RESULT: Final = {
    "success": True,
    "filename": "a_20250101_120000.jpg",
    "path": "/images/a.jpg",
    "camera": "a",
    "timestamp": "2025-01-01T12:00:00",
    "imu_data": {"roll": 1.5, "pitch": 0.1, "yaw": 3, "timestamp": 1.5},
}
_CONFIG: Final = {
    "cameras": [
        {
            "name": "test1",
            "device": "/dev/video0",
            "width": 640,
            "height": 480,
            "fps": 30,
            "format": "MJPG",
            "mode": "v4l2",
            "services": "camera.service",
        }
    ],
    "image_dir": "images",
    "max_images": 10,
}
_FLEET: Final = (
    b'ntp_server = "127.0.0.1"\ninterfaces = ["127.0.0.1"]\ncheck_every = 5\n\n[[camera]]\n'
    b'address = "multicam://127.0.0.1:8080"\nlabel = "left"\n\n[[camera]]\n'
    b'address = "mediamtx://127.0.0.1:8002/camera0"\ntoken_env = "NOT_SET"\n'
)
_LAUNCH: Final = (
    b"Setting pipeline to PLAYING ...\nProgress: (open) Opening Stream\n"
    b"/GstPipeline:pipeline0/GstIdentity:seen: last-message = chain   ******* (seen:sink) (4096 bytes, dts: "
    b"0:00:00.033333333, pts: 0:00:00.066666666, duration: 0:00:00.033333333, offset: -1, offset_end: -1, "
    b"flags: 00000040 discont , meta: none) 0x7f0000\n"
    b'Got message #42 from element "sink" (state-changed): GstMessageStateChanged, '
    b"old-state=(GstState)ready;\n"
    b"ERROR: from element /GstPipeline:pipeline0/GstSRTSrc:src: Could not open resource.\n"
    b"Additional debug info:\n"
    b"splitmuxsink-fragment-opened, location=(string)/tmp/a-00.mkv, running-time=(guint64)0;\n"
    b'Got EOS from element "pipeline0".\nExecution ended after 0:00:01.5\n'
)
_GDP: Final = (
    b"\x01\x00\x00\x00\x00\x02"
    + struct.pack(">I", 52)
    + bytes(52)
    + b"video/x-raw, format=(string)BGR, width=(int)4, height=(int)2\0"[:52]
)
_IMAGES: Final = (".jpg",)

TARGETS: Final[tuple[Target, ...]] = (
    Target("mp4", _scan, _media(".mp4", ".mov"), ".mp4"),
    Target("matroska", _scan, _media(".mkv", ".webm"), ".mkv"),
    Target("mpegts", _scan, _media(".ts", ".m2ts"), ".ts"),
    Target("avi", _scan, _media(".avi"), ".avi"),
    Target("flv", _scan, _media(".flv"), ".flv"),
    Target("raw-video", _scan, _media(".h264", ".h265", ".264", ".265"), ".h264"),
    Target("zip", _scan, lambda: [_oak_archive()], ".zip"),
    Target("jpeg", lambda data, _: find_picture(data), _media(".jpg")),
    Target("verify", awaited(verify_file), _media(".mp4", ".mkv", ".jpg"), ".mp4"),
    Target("frame-times", awaited(_all_frame_times), _media(".mp4", ".mkv", ".ts", ".avi", ".flv"), ".mp4"),
    Target("xdaq", awaited(read_metadata), _media("mjpeg-aac.mkv", "jpeg.gst.mkv"), ".mkv"),
    Target("jpeg-stream", _fed(JpegFilter), lambda: [base_bytes("still.jpg") * 3]),
    Target("gstreamer", _fed(LaunchReader), lambda: [_LAUNCH]),
    Target("json-rpc", _rpc, _json(*_RPC, list(_RPC[:2])), text=True),
    Target("sntp", _sntp, lambda: [build_request(7), _sntp_reply()]),
    Target(
        "multicam-answer",
        _fed(ResponseReader),
        lambda: [json.dumps(_STATUS).encode(), _prefixed(_LISTED)],
        text=True,
    ),
    Target("multicam-file", _fed(FileReader), lambda: [_prefixed(_HEADER, b"x" * 12)]),
    Target(
        "multicam-command",
        _fed(CommandReader),
        lambda: [json.dumps(_COMMAND).encode(), _prefixed(_COMMAND)],
        text=True,
    ),
    Target(
        "multicam-models",
        _each(StatusResponse.from_json, StopRecordingResponse.from_json, parse_list),
        _json(_STATUS, _STOPPED, _LISTED),
        text=True,
    ),
    Target(
        "nanocam-request",
        _fed(RequestReader),
        _json(
            {"type": "image", "width": 640, "height": 480, "frames": 2, "interval": 1, "format": "file"},
            {"type": "video", "width": 640, "height": 480, "duration": 3, "format": "udp"},
            {"type": "reset_timer", "duration": "5", "asynccam": {"v": 1, "token": "x", "port": 5004}},
        ),
        text=True,
    ),
    Target(
        "nanocam-reply",
        _fed(ReplyReader),
        lambda: [
            b"BUSY",
            b"OK",
            write_names(["/a/2020-07-29 14:54:15.jpg"]) + b"DONE" + base_bytes("still.jpg") + b"QUIT",
        ],
    ),
    Target("nanocam-pickle", _fed(PickleReader), lambda: [write_names(["/a/b.jpg", "c:d.mp4", "ü" * 40])]),
    Target("nanocam-pictures", _fed(PictureReader), lambda: [_GDP]),
    Target(
        "thorvision",
        _each(*(_named(parse) for parse in (parse_cameras, parse_hot_plug, parse_names, parse_version))),
        _json(
            _THOR_CAMERAS, {"event_type": "Added", "camera": _THOR_CAMERAS[0]}, ["a.log"], {"version": "1.2"}
        ),
        text=True,
    ),
    Target(
        "snapshot",
        _each(
            *(_named(parse) for parse in (parse_snapshot_cameras, parse_result, parse_results, parse_page))
        ),
        _json(
            [{"name": "a", "id": "a"}],
            _SNAPSHOT_RESULT,
            {"success": True, "results": [_SNAPSHOT_RESULT]},
            {"items": [], "next": None},
        ),
        text=True,
    ),
    Target("snapshot-config", awaited(_config), _json(_CONFIG), ".json", text=True),
    Target("snapshot-imu", awaited(read_imu), lambda: [_picture_with_reading()], ".jpg"),
    Target(
        "bridge-command",
        _each(parse_take_request),
        _json({"cameras": ["a"], "duration": 5, "start_in": 1.5, "name": "t"}),
        text=True,
    ),
    Target("manifest", _each(Manifest.from_bytes), lambda: _takes("manifest.json"), text=True),
    Target("journal", _journal, _journals, text=True),
    Target("fleet", _as_text(Fleet.parse), lambda: [_FLEET], text=True),
    Target(
        "address",
        _as_text(Address.parse),
        lambda: [b"multicam://[fe80::1%25eth0]:8080/cam%2fera", b"mediamtx://phone.local:8002/camera0"],
        text=True,
    ),
    Target("file-name", _as_text(safe_name), lambda: [b"../a\0b/CON.mp4", "ü漢".encode() * 80], text=True),
)
"""Every parser of bytes that come from a network, a device or a file."""


def _oak_archive() -> bytes:
    import io
    import zipfile

    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("rgb.h264", os.urandom(400))
        archive.writestr("metadata.json", json.dumps(_STATUS))
    return memory.getvalue()


def _sntp_reply() -> bytes:
    request = build_request(7)
    return bytes([0x24, 1, 0, 0xEC]) + bytes(20) + request[-8:] + bytes([0xE9, 0, 0, 1, 0, 0, 0, 0]) * 2


def _picture_with_reading() -> bytes:
    import io

    from PIL import Image

    memory = io.BytesIO()
    picture = Image.new("RGB", (16, 16))
    exif = picture.getexif()
    exif.get_ifd(0x8769)[0x9286] = b"ASCII\0\0\0" + json.dumps(_SNAPSHOT_RESULT["imu_data"]).encode()
    picture.save(memory, "JPEG", exif=exif)
    return memory.getvalue()
