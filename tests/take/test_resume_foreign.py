"""Directories of takes that somebody else made: nothing outside of them is read, written or renamed."""

import asyncio
import ctypes
import json
import os
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from asynccam.errors import AsynccamError, RecordingError, StorageError
from asynccam.model.manifest import CameraRecord, FileRecord, FileState, Manifest, Moment
from asynccam.model.safe_files import Folder, Root, confined, open_file, read_file
from asynccam.net.transfer.partfile import PartFile
from asynccam.recording import frame_times
from asynccam.recording.mosaic.mosaic import Clip, Panel, write_cut, write_mosaic, write_sheet
from asynccam.recording.verify import verify_file
from asynccam.take import Alignment, Take, align_take, read_frame_times, resume_take
from asynccam.take.store import JOURNAL_NAME
from tests.support.command import asynccam
from tests.support.levels import write_levels
from tests.support.scripted_camera import ScriptedCamera
from tests.take.test_journal import Held, left_behind

AT_FDCWD, RENAME_EXCHANGE = -100, 2
SECRET = b"of somebody else\n"
RAMP = [16, 60, 120, 200, 235]


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """A directory beside the take, which is the same afterwards to the last byte."""
    place = tmp_path / "outside"
    place.mkdir()
    (place / "file").write_bytes(SECRET)
    before = snapshot(place)
    yield place
    assert snapshot(place) == before


def snapshot(place: Path) -> dict[str, tuple[bytes, int]]:
    found = {}
    for path in sorted(place.rglob("*")):
        status = path.lstat()
        data = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
        found[str(path)] = data, status.st_ino
    return found


def _pipe(path: Path, outside: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path, outside: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


def _link(path: Path, outside: Path) -> None:
    path.symlink_to(outside / "file")


def _relative_link(path: Path, outside: Path) -> None:
    path.symlink_to(os.path.relpath(outside / "file", path.parent))


def _device(path: Path, outside: Path) -> None:
    path.symlink_to("/dev/zero")


def _hard_link(path: Path, outside: Path) -> None:
    path.hardlink_to(outside / "file")


def _directory(path: Path, outside: Path) -> None:
    path.mkdir()


OTHERS: dict[str, Callable[[Path, Path], None]] = {
    "pipe": _pipe,
    "socket": _socket,
    "link": _link,
    "relative link": _relative_link,
    "link to a device": _device,
    "hard link": _hard_link,
    "directory": _directory,
}


@pytest.mark.parametrize("kind", OTHERS)
def test_open_refuses_files_outside_of_the_directory(tmp_path: Path, outside: Path, kind: str) -> None:
    take = tmp_path / "take"
    take.mkdir()
    OTHERS[kind](take / "video.mp4", outside)
    with confined(Root.of(take)), pytest.raises(OSError):  # noqa: PT011 - of every kind
        open_file(take / "video.mp4")


@pytest.mark.parametrize("name", ["../outside/file", "a/../../outside/file", "linked/file", "a\0b", "", "."])
def test_no_path_leads_out_of_the_directory(tmp_path: Path, outside: Path, name: str) -> None:
    take = tmp_path / "take"
    take.mkdir()
    (take / "linked").symlink_to(outside)
    root = Root.of(take)
    for path in (take / name, outside / "file", Path("/etc/hostname")):
        with confined(root), pytest.raises(OSError):  # noqa: PT011 - of every kind
            read_file(path, 1000)
    with confined(root), pytest.raises(OSError):  # noqa: PT011 - of every kind
        Folder(take / "linked" / "deeper", make=True)


def test_links_to_the_directory_and_odd_names_are_harmless(tmp_path: Path) -> None:
    (tmp_path / "real" / "take").mkdir(parents=True)
    (tmp_path / "way").symlink_to(tmp_path / "real")
    take = tmp_path / "way" / "take"
    with confined(Root.of(take)), Folder(take / "one" / "two", make=True) as folder:
        folder.write_new("a\nb %d", SECRET)
        assert read_file(take / "one" / "two" / "a\nb %d", 1000) == SECRET
        with pytest.raises(OSError, match="more than 3 bytes"):
            read_file(take / "one" / "two" / "a\nb %d", 3)


def test_two_names_of_a_file_left_by_a_killed_download(tmp_path: Path) -> None:
    (tmp_path / "v.mp4").write_bytes(SECRET)
    (tmp_path / "v.mp4.part").hardlink_to(tmp_path / "v.mp4")
    with confined(Root.of(tmp_path)):
        assert read_file(tmp_path / "v.mp4", 1000) == SECRET


async def test_resume_directory_swapped_for_a_link(tmp_path: Path, outside: Path) -> None:
    take, place = tmp_path / "take", tmp_path / "take" / "one"
    place.mkdir(parents=True)
    (tmp_path / "link").symlink_to(outside)
    end = threading.Event()

    def swap() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        names = os.fsencode(place), os.fsencode(tmp_path / "link")
        while not end.is_set():
            # renameat2(2): both names change places at once, so that each is there all the time.
            assert libc.renameat2(AT_FDCWD, names[0], AT_FDCWD, names[1], RENAME_EXCHANGE) == 0
        if place.is_symlink():
            libc.renameat2(AT_FDCWD, names[0], AT_FDCWD, names[1], RENAME_EXCHANGE)

    swapping = asyncio.ensure_future(asyncio.to_thread(swap))
    refused = 0
    try:
        for number in range(300):
            with confined(Root(take, take.resolve())):
                try:
                    part = await PartFile.open(place, f"{number}.mp4", size=4)
                    await part.write(b"data")
                    await part.commit("x")
                except StorageError:
                    refused += 1
    finally:
        end.set()
        await swapping
    # A part whose directory was swapped meanwhile ended in the directory in which it began.
    assert len([path for path in place.iterdir() if path.suffix == ".mp4"]) == 300 - refused


# -- resume ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [".manifest.json.new", "manifest.json.part", "one/video.mp4.part"])
@pytest.mark.parametrize("kind", ["link", "relative link", "hard link"])
async def test_links_named_like_files_that_resume_writes(
    tmp_path: Path, outside: Path, name: str, kind: str
) -> None:
    camera = ScriptedCamera("one")
    directory = await left_behind(tmp_path, camera)
    OTHERS[kind](directory / name, outside)
    found = await resume_take(directory, Held(camera))
    assert found.cameras[0].files[0].path == "one/video.mp4"
    assert (directory / "one" / "video.mp4").read_bytes() == camera.contents["video.mp4"]


@pytest.mark.parametrize("kind", OTHERS)
async def test_resume_journal_that_is_not_a_file(tmp_path: Path, outside: Path, kind: str) -> None:
    camera = ScriptedCamera("one")
    directory = await left_behind(tmp_path, camera)
    (directory / JOURNAL_NAME).unlink()
    OTHERS[kind](directory / JOURNAL_NAME, outside)
    with pytest.raises(StorageError, match=JOURNAL_NAME):
        await resume_take(directory, Held(camera))
    assert camera.calls == []


@pytest.mark.parametrize("kind", OTHERS)
async def test_resume_manifest_that_is_not_a_file(tmp_path: Path, outside: Path, kind: str) -> None:
    camera = ScriptedCamera("one")
    directory = await left_behind(tmp_path, camera)
    data = (directory / "manifest.json").read_bytes()
    (directory / "manifest.json").unlink()
    (outside / "file").write_bytes(data)
    OTHERS[kind](directory / "manifest.json", outside)
    with pytest.raises(StorageError, match="cannot read the manifest"):
        await Manifest.load(directory)
    with pytest.raises(StorageError, match="cannot read the manifest"):
        await Manifest.load(directory / "manifest.json")
    if kind != "directory":
        (directory / JOURNAL_NAME).unlink()
        with pytest.raises(StorageError, match="neither"):
            await resume_take(directory, Held(camera))
    (outside / "file").write_bytes(SECRET)


def rewrite(directory: Path, change: Callable[[Manifest], None]) -> None:
    """Change the manifest, and what the journal knows of it."""
    path = directory / "manifest.json"
    manifest = Manifest.from_bytes(path.read_bytes())
    change(manifest)
    path.write_bytes(manifest.to_bytes())
    lines = [json.loads(line) for line in (directory / JOURNAL_NAME).read_text().splitlines()]
    for line in lines:
        if line["event"] == "created":
            line["manifest"] = manifest.model_dump(mode="json")
        if line["event"] == "camera":
            line["record"] |= {"directory": manifest.cameras[0].directory}
    (directory / JOURNAL_NAME).write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.mark.parametrize("way", ["..", "../outside", "one/../../outside", "absolute", "linked", "linked/x"])
@pytest.mark.parametrize("local", [False, True])
async def test_resume_camera_directory_elsewhere_is_refused(
    tmp_path: Path, outside: Path, way: str, local: bool
) -> None:
    camera = ScriptedCamera("one")
    directory = await left_behind(tmp_path, camera)
    (outside / "video.mp4").write_bytes(SECRET)
    before = snapshot(outside)
    (directory / "linked").symlink_to(outside)

    def change(manifest: Manifest) -> None:
        manifest.cameras[0].directory = str(outside) if way == "absolute" else way
        if local:
            manifest.cameras[0].features = []

    rewrite(directory, change)
    found = await resume_take(directory, Held(camera))
    (record,) = found.cameras
    assert record.errors
    assert not [file for file in record.files if file.state is FileState.ARRIVED]
    assert not camera.recording or local
    assert snapshot(outside) == before
    assert {path.name for path in tmp_path.iterdir()} == {"outside", "take", "dead"}
    (outside / "video.mp4").unlink()


async def test_camera_directory_with_a_zero_byte_stays_in_the_take(tmp_path: Path, outside: Path) -> None:
    camera = ScriptedCamera("one")
    directory = await left_behind(tmp_path, camera)
    path = directory / "manifest.json"
    path.write_text(path.read_text().replace('"directory": "one"', '"directory": "../outside\\u0000"'))
    (directory / JOURNAL_NAME).unlink()
    (record,) = (await resume_take(directory, Held(camera))).cameras
    assert "\0" not in record.directory
    assert record.errors
    assert {path.name for path in tmp_path.iterdir()} == {"outside", "take", "dead"}


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("source", ["device", "local"])
async def test_resume_ignores_files_that_are_not_regular(
    tmp_path: Path, outside: Path, kind: str, source: Any
) -> None:
    camera = ScriptedCamera("one", contents={})
    directory = await left_behind(tmp_path, camera)
    OTHERS[kind](directory / "one" / "video.mp4", outside)
    camera.recording = False

    def change(manifest: Manifest) -> None:
        record = manifest.cameras[0]
        names = ["video.mp4", "../../outside/file", str(outside / "file")]
        record.files = [FileRecord(name=name, source=source) for name in names]
        record.files[1].path = names[1]
        record.commanded_at = record.stopped_at = None

    rewrite(directory, change)
    found = await asyncio.wait_for(resume_take(directory, Held(camera), verify=verify_file), 30)
    assert not [file for file in found.cameras[0].files if file.state is FileState.ARRIVED]


def hostile(data: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(data)

    return write


def _endless(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


@pytest.mark.parametrize(
    "write",
    [hostile(b"[" * 1_000_000), hostile(b'{"a":' * 100_000), _endless, hostile(b"\xff\xfe"), hostile(b"")],
)
async def test_resume_invalid_manifest_is_a_storage_error(
    tmp_path: Path, write: Callable[[Path], None]
) -> None:
    for name in ("manifest.json", "align.json"):
        write(tmp_path / name)
    with pytest.raises(StorageError):
        await Manifest.load(tmp_path)
    with pytest.raises(StorageError):
        await Alignment.load(tmp_path)
    with pytest.raises(StorageError):
        await resume_take(tmp_path, Held())


async def test_ten_thousand_cameras_and_files_do_not_hold_the_loop(tmp_path: Path) -> None:
    now = Moment.of(1_700_000_000.0)
    many = [
        CameraRecord(
            id=f"x://{n}", name=f"a\n{n}\0", system="x", address="multicam://127.0.0.1:1", directory="../x"
        )
        for n in range(10_000)
    ]
    many[0].files = [FileRecord(name=f"../{n}\n", source="device") for n in range(10_000)]
    manifest = Manifest(take="../../t", phase="recording", created_at=now, written_at=now, cameras=many)
    (tmp_path / "manifest.json").write_bytes(manifest.to_bytes())
    facts = [{"at": n, "event": "camera", "camera": f"x://{n}", "record": {}} for n in range(10_000)]
    (tmp_path / JOURNAL_NAME).write_text("".join(json.dumps(one) + "\n" for one in facts))
    read = await Manifest.load(tmp_path)
    assert len(read.cameras) == 10_000
    times = await read_frame_times(read, tmp_path, frame_times)
    assert len(align_take(read, times).cameras) == 10_000


# -- readers --------------------------------------------------------------------------------------


async def foreign_take(tmp_path: Path, path: str) -> Path:
    """A take with a video whose place in the manifest is somewhere else."""
    take = tmp_path / "foreign"
    (take / "one").mkdir(parents=True)
    video = await write_levels(tmp_path / "outside" / "v.mkv", RAMP)
    await asyncio.to_thread(video.rename, take / "one" / "real.mkv")
    now = Moment.of(1_700_000_000.0)
    finding = {"verdict": "complete", "frames": 5, "duration": 0.5}
    cameras = [
        {
            "id": f"x://{number}",
            "name": f"{number}",
            "system": "x",
            "directory": "one",
            "files": [
                {"name": "v.mkv", "source": "local", "state": "arrived", "path": one, "verdict": finding}
            ],
            "first_frame_at": now,
            "first_frame_bound": 0.01,
            "first_frame_source": "seen",
        }
        for number, one in enumerate(["one/real.mkv", path])
    ]
    whole = {"take": "t", "phase": "done", "created_at": now, "written_at": now, "cameras": cameras}
    (take / "manifest.json").write_bytes(Manifest.model_validate(whole).to_bytes())
    return take


@pytest.mark.parametrize(
    "way", ["../outside/file", "absolute", "one/link.mkv", "linked/file", "one/pipe.mkv"]
)
async def test_align_opens_nothing_outside_of_the_take(tmp_path: Path, outside: Path, way: str) -> None:
    take = await foreign_take(tmp_path, str(outside / "file") if way == "absolute" else way)
    (take / "one" / "link.mkv").symlink_to(outside / "file")
    (take / "linked").symlink_to(outside)
    os.mkfifo(take / "one" / "pipe.mkv")
    (take / "align.json").symlink_to(outside / "file")
    video = await write_levels(tmp_path / "v.mkv", RAMP)
    await asyncio.to_thread((outside / "file").write_bytes, video.read_bytes())
    for option, target in (("--sheet", "s.png"), ("--preview", "p.mp4"), ("--cut", "cuts")):
        ended = await asynccam("align", take, option, tmp_path / target, "--json", timeout=60)
        assert ended.code not in (0, 8), ended.out
        assert "could not be made" in ended.err or "cannot be read" in ended.err
        assert "v.mkv" not in ended.out
    assert not (take / "align.json").is_symlink()
    manifest = await Manifest.load(take)
    times = await read_frame_times(manifest, take, frame_times)
    assert len(times["x://0"]) == len(RAMP)
    assert len(times["x://1"]) == 0
    assert times["x://1"].problem
    assert (await Alignment.load(take)).take == "t"
    await asyncio.to_thread((outside / "file").write_bytes, SECRET)


@contextmanager
def listening() -> Iterator[tuple[str, list[bytes]]]:
    """A server that notes who connects."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            try:
                while True:
                    peer, _ = server.accept()
                    heard.append(b"connected")
                    peer.close()
            except OSError:
                return

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield f"127.0.0.1:{server.getsockname()[1]}", heard
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join(10)


PLAYLISTS: dict[str, str] = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://{host}/a.ts\n#EXTINF:1,\nfile://{file}\n",
    "master": "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nhttp://{host}/a.m3u8\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>http://{host}/</BaseURL></MPD>',
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
    "concat": "ffconcat version 1.0\nfile '{file}'\n",
    "list": "file://{file}\nhttp://{host}/\n",
}


@pytest.mark.parametrize("kind", PLAYLISTS)
@pytest.mark.parametrize("polyglot", [False, True])
async def test_resume_playlist_named_like_a_video_opens_nothing(
    tmp_path: Path, outside: Path, kind: str, polyglot: bool
) -> None:
    video = tmp_path / "v.ts"
    words = f"videotestsrc num-buffers=5 ! x264enc ! mpegtsmux ! filesink location={video}"
    await (await asyncio.create_subprocess_exec("gst-launch-1.0", "-q", *words.split())).wait()
    with listening() as (host, heard):
        text = PLAYLISTS[kind].format(host=host, file=outside / "file")
        bad = tmp_path / "bad.mp4"
        bad.write_bytes(text.encode() + (video.read_bytes() if polyglot else b""))
        panels = [Panel("bad", (Clip(bad),))]
        works: list[Callable[[], Any]] = [
            lambda: write_sheet(panels, tmp_path / "s.png", timeout=20),
            lambda: write_mosaic(panels, tmp_path / "p.mp4", seconds=0.3, timeout=20),
            lambda: write_cut([Clip(bad)], tmp_path / "c.mp4", seconds=0.3, fps=10, timeout=20),  # type: ignore[arg-type]  # any number will do
            lambda: verify_file(bad, decode=True),
        ]
        for work in works:
            if polyglot:
                try:
                    await work()
                except AsynccamError:
                    continue
            elif work is works[-1]:
                assert (await work()).frames is None
            else:
                with pytest.raises(RecordingError, match="unknown format"):
                    await work()
        assert heard == []


async def test_labels_and_names_that_are_paths_stay_in_the_output_directory(
    tmp_path: Path, outside: Path
) -> None:
    cameras = [
        ScriptedCamera("one", contents={"../../outside/file": b"x"}, local=False),
        ScriptedCamera("two"),
    ]
    labels = {cameras[0].id: "../../outside", cameras[1].id: str(outside)}
    out = tmp_path / "out"
    take = await Take(cameras, out, name="../../outside", labels=labels).run(duration=0.02, start_in=0)
    assert take.directory == out / "outside"
    assert {path.name for path in tmp_path.iterdir()} == {"out", "outside"}
    directories = {camera.directory for camera in take.manifest.cameras}
    assert len(directories) == 2
    assert all((take.directory / one).is_dir() and "/" not in one for one in directories)


@pytest.mark.parametrize("depth", [90, 150, 300, 900, 100_000])
async def test_resume_deeply_nested_journal(tmp_path: Path, depth: int) -> None:
    camera = ScriptedCamera("one")
    directory = await left_behind(tmp_path, camera)
    lines = (directory / JOURNAL_NAME).read_text().splitlines()
    deep = "[" * depth + "]" * depth
    found = [line[:-1] + f', "deep": {deep}}}' for line in lines]
    created = lines[0].replace('"manifest": {', f'"manifest": {{"deep": {deep}, ', 1)
    (directory / JOURNAL_NAME).write_text("\n".join([*lines, *found, created]) + "\n")
    resumed = await resume_take(directory, Held(camera))
    assert resumed.cameras[0].files[0].state is FileState.ARRIVED
    assert (await Manifest.load(directory)) == resumed
