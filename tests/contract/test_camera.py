"""The contract of `Camera`, checked for every system against a real device, service or simulator."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from asynccam.errors import AddressError, AsynccamError, FeatureError, NotFoundError
from asynccam.model.address import Address
from asynccam.model.camera import Camera
from asynccam.model.digest import DigestName
from asynccam.model.features import (
    ArmedStart,
    DeviceClock,
    FeatureKey,
    Files,
    Record,
    RecordPlan,
    ScheduledStart,
    Snapshot,
    Stream,
    SupportsRecord,
)
from asynccam.model.info import CameraInfo, CameraState, CameraStatus, LocalFile, MediaFile
from asynccam.model.systems import SYSTEMS as KNOWN
from tests.contract.systems import SYSTEMS, Rig, SystemUnderTest
from tests.support.cancelling import cancelled_at
from tests.support.digests import digest_of
from tests.support.leftovers import Holdings
from tests.support.waiting import eventually, eventually_awaited

PATIENT = 30.0
KEYS: tuple[FeatureKey[Any], ...] = (Record, ScheduledStart, Files, Snapshot, Stream, DeviceClock)


def systems_with(*keys: FeatureKey[Any]) -> Callable[[Any], Any]:
    chosen = [system for system in SYSTEMS if system.features.issuperset(keys)]
    return pytest.mark.parametrize("system", chosen, ids=[system.name for system in chosen])


every_system = systems_with()


@pytest.fixture
async def rig(system: SystemUnderTest, tmp_path: Path) -> AsyncIterator[Rig]:
    made = Rig(system, tmp_path)
    await made.start()
    try:
        yield made
    finally:
        await made.aclose()


def plan(directory: Path) -> RecordPlan:
    directory.mkdir(exist_ok=True)
    return RecordPlan(directory, duration=1.0, timeout=PATIENT)


async def started(record: SupportsRecord, directory: Path) -> ArmedStart:
    armed = await record.arm(plan(directory))
    armed.release(None)
    await armed.accepted()
    return armed


async def is_idle(camera: Camera) -> None:
    """Wait until a camera does not record: a stop may be answered before the device is idle."""

    async def ready() -> bool:
        return (await camera.status()).state is CameraState.READY

    await eventually_awaited(ready, PATIENT)


def test_every_system_is_under_contract() -> None:
    assert {system.name for system in SYSTEMS} == set(KNOWN)


# -- identity, status, features ---------------------------------------------------------------------


@every_system
async def test_identity_is_stable(rig: Rig) -> None:
    camera = rig.camera
    before: CameraInfo = camera.info
    assert camera.id == before.id
    assert before.id.startswith(f"{rig.system.name}://")
    assert before.system == rig.system.name
    assert before.name
    await camera.status()
    assert (camera.info.id, camera.info.name) == (before.id, before.name)
    again = await rig.connect()
    assert again.id == before.id
    await again.aclose()
    port = str(Address.parse(rig.address).port)
    assert (port in before.id) is rig.system.id_has_address


@every_system
async def test_address_of_info_leads_to_the_camera(rig: Rig) -> None:
    address = Address.parse(rig.camera.info.address)
    assert address.system == rig.system.name
    assert (address.host, address.port) == ("127.0.0.1", Address.parse(rig.address).port)


@every_system
async def test_status_is_ready(rig: Rig) -> None:
    status = await rig.camera.status()
    assert isinstance(status, CameraStatus)
    assert status.state is CameraState.READY


@every_system
async def test_features_by_key(rig: Rig) -> None:
    camera = rig.camera
    assert set(camera.features) == rig.system.features
    for key in KEYS:
        assert camera.supports(key) is (key in rig.system.features)
        if camera.supports(key):
            assert camera.feature(key) is camera.features[key]
        else:
            with pytest.raises(FeatureError, match=f"no feature '{key.name}'"):
                camera.feature(key)


@every_system
async def test_repr_has_the_id(rig: Rig) -> None:
    assert repr(rig.camera) == f"<{type(rig.camera).__name__} {rig.camera.id}>"


@systems_with(DeviceClock)
async def test_clock_offset_has_a_bound(rig: Rig) -> None:
    offset = await rig.camera.feature(DeviceClock).measure_clock(samples=2)
    assert abs(offset.offset) <= offset.bound + 5.0
    assert offset.bound > 0


@systems_with(Stream)
async def test_stream_urls_are_by_kind(rig: Rig) -> None:
    urls = await rig.camera.feature(Stream).stream_urls()
    assert urls
    for kind, url in urls.items():
        assert kind in {"rtsp", "hls", "webrtc", "srt", "udp"}
        assert "://" in url


# -- Record -----------------------------------------------------------------------------------------


@systems_with(Record)
async def test_recording_starts_and_stops(rig: Rig, tmp_path: Path) -> None:
    camera = rig.camera
    record = camera.feature(Record)
    armed = await record.arm(plan(tmp_path / "files"))
    assert (await camera.status()).state is not CameraState.RECORDING
    before = time.time()
    armed.release(None)
    report = await armed.accepted()
    await armed.aclose()
    assert before <= report.commanded_at <= report.accepted_at <= time.time()
    assert report.scheduled_for is None
    assert (await camera.status()).state is CameraState.RECORDING
    stopped = await record.stop(timeout=PATIENT)
    assert report.accepted_at <= stopped.commanded_at <= stopped.stopped_at <= time.time()
    assert stopped.files
    for file in stopped.files:
        assert file.path is None or (file.path.parent == tmp_path / "files" and file.path.is_file())
    await is_idle(camera)


@systems_with(Record)
async def test_camera_records_again_after_a_stop(rig: Rig, tmp_path: Path) -> None:
    record = rig.camera.feature(Record)
    names: list[str] = []
    for index in range(2):
        armed = await started(record, tmp_path / f"files {index}")
        names += [file.name for file in (await record.stop(timeout=PATIENT)).files]
        await armed.aclose()
        await is_idle(rig.camera)
    assert len(names) >= 2


@systems_with(Record)
async def test_second_stop_is_refused_or_harmless(rig: Rig, tmp_path: Path) -> None:
    record = rig.camera.feature(Record)
    armed = await started(record, tmp_path / "files")
    await record.stop(timeout=PATIENT)
    with suppress(AsynccamError):
        await record.stop(timeout=PATIENT)
    await armed.aclose()
    await is_idle(rig.camera)


@systems_with(Record)
async def test_stop_without_a_start_is_refused_or_harmless(rig: Rig) -> None:
    with suppress(AsynccamError):
        await rig.camera.feature(Record).stop(timeout=PATIENT)
    await is_idle(rig.camera)


@systems_with(Record)
async def test_second_arm_is_refused_or_harmless(rig: Rig, tmp_path: Path) -> None:
    record = rig.camera.feature(Record)
    armed = [await record.arm(plan(tmp_path / "one"))]
    with suppress(AsynccamError):
        armed.append(await record.arm(plan(tmp_path / "two")))
    for start in armed:
        await start.aclose()
    again = await started(record, tmp_path / "three")
    assert (await record.stop(timeout=PATIENT)).files
    await again.aclose()


@systems_with(Record)
async def test_arm_while_recording_is_refused(rig: Rig, tmp_path: Path) -> None:
    record = rig.camera.feature(Record)
    armed = await started(record, tmp_path / "one")
    with pytest.raises(AsynccamError):
        await record.arm(plan(tmp_path / "two"))
    assert (await rig.camera.status()).state is CameraState.RECORDING
    assert (await record.stop(timeout=PATIENT)).files
    await armed.aclose()


@systems_with(Record)
async def test_armed_start_that_is_closed_records_nothing(rig: Rig, tmp_path: Path) -> None:
    record = rig.camera.feature(Record)
    armed = await record.arm(plan(tmp_path / "files"))
    await armed.aclose()
    await armed.aclose()
    await is_idle(rig.camera)
    assert not list((tmp_path / "files").iterdir())


@systems_with(Record)
async def test_released_start_that_is_closed_can_be_stopped(rig: Rig, tmp_path: Path) -> None:
    record = rig.camera.feature(Record)
    armed = await record.arm(plan(tmp_path / "files"))
    armed.release(None)
    await armed.aclose()
    with suppress(AsynccamError):  # whether the start was carried out is not known
        await record.stop(timeout=PATIENT)
    await is_idle(rig.camera)


@systems_with(Record)
async def test_arm_cancelled_at_an_await_leaves_nothing(rig: Rig, tmp_path: Path) -> None:
    tasks, before = asyncio.all_tasks(), Holdings.now()
    camera = await rig.connect()
    record = camera.feature(Record)
    files = plan(tmp_path / "files")
    armed: list[ArmedStart] = []

    async def arm() -> None:
        armed.append(await record.arm(files))

    for count in (1, 2, 3, 5, 8, 13, 21, 34, 55, 89):
        was_cancelled = await cancelled_at(arm(), count)
        assert was_cancelled or count > 1
        if not was_cancelled:
            break
    for start in armed:
        await start.aclose()
    await is_idle(camera)
    assert not list((tmp_path / "files").iterdir())
    again = await started(record, tmp_path / "again")
    assert (await record.stop(timeout=PATIENT)).files
    await again.aclose()
    await camera.aclose()
    await _no_task_gained(tasks)
    await _nothing_gained(before)


@systems_with(Record, ScheduledStart)
async def test_scheduled_start_is_accepted_before_its_time(rig: Rig, tmp_path: Path) -> None:
    camera = rig.camera
    record = camera.feature(Record)
    armed = await record.arm(plan(tmp_path / "files"))
    at = time.time() + 3600.0
    armed.release(at)
    report = await armed.accepted()
    assert report.accepted_at < at
    assert report.scheduled_for == pytest.approx(at, abs=1.0)
    assert (await camera.status()).state is not CameraState.RECORDING
    await armed.aclose()


@systems_with(Record)
async def test_recording_of_a_closed_camera_leaves_nothing_here(rig: Rig, tmp_path: Path) -> None:
    tasks, before = asyncio.all_tasks(), Holdings.now()
    camera = await rig.connect()
    await started(camera.feature(Record), tmp_path / "files")
    await camera.aclose()
    await camera.aclose()
    await _no_task_gained(tasks)
    await _nothing_gained(before)


# -- Files and Snapshot -----------------------------------------------------------------------------


@systems_with(Record, Files)
async def test_recorded_file_is_listed_and_downloaded(rig: Rig, tmp_path: Path) -> None:
    record, files = rig.camera.feature(Record), rig.camera.feature(Files)
    armed = await started(record, tmp_path / "local")
    (file,) = (await record.stop(timeout=PATIENT)).files
    await armed.aclose()
    listed = {entry.name: entry for entry in await files.list_files()}
    assert file.name in listed
    local = await files.download(file, tmp_path / "home")
    await _is_whole(local, tmp_path / "home", file.name)
    assert listed[file.name].size in (None, local.size)


@systems_with(Snapshot)
async def test_snapshot_is_a_new_file(rig: Rig, tmp_path: Path) -> None:
    snapshot = rig.camera.feature(Snapshot)
    first = await snapshot.snapshot(tmp_path / "pictures")
    second = await snapshot.snapshot(tmp_path / "pictures")
    assert first.path != second.path
    for local in (first, second):
        await _is_whole(local, tmp_path / "pictures", local.source)
        assert local.path.read_bytes().startswith(b"\xff\xd8")
    assert len(list((tmp_path / "pictures").iterdir())) == 2


@systems_with(Snapshot, Files)
async def test_snapshot_is_listed_and_downloaded_by_name_and_entry(rig: Rig, tmp_path: Path) -> None:
    files = rig.camera.feature(Files)
    picture = await rig.camera.feature(Snapshot).snapshot(tmp_path / "pictures")
    (entry,) = [file for file in await files.list_files() if file.name == picture.source]
    downloads = [await files.download(file, tmp_path / "home") for file in (entry, entry.name)]
    assert len({local.path for local in downloads}) == 2
    for local in downloads:
        await _is_whole(local, tmp_path / "home", entry.name)
        assert local.sha256 == picture.sha256


async def _file_on_device(camera: Camera, tmp_path: Path) -> MediaFile:
    if camera.supports(Record):
        armed = await started(camera.feature(Record), tmp_path / "local")
        (file,) = (await camera.feature(Record).stop(timeout=PATIENT)).files
        await armed.aclose()
    else:
        await camera.feature(Snapshot).snapshot(tmp_path / "pictures")
        (file,) = await camera.feature(Files).list_files()
    return file


@systems_with(Files)
@pytest.mark.parametrize("name", ["blake3", "xxh3", None])
async def test_download_has_the_digest_that_was_asked_for(
    rig: Rig, tmp_path: Path, name: DigestName | None
) -> None:
    file = await _file_on_device(rig.camera, tmp_path)
    local = await rig.camera.feature(Files).download(file, tmp_path / "home", digest=name)
    value = digest_of(name, await asyncio.to_thread(local.path.read_bytes))
    assert (local.sha256, local.digest) == ("", f"{name}:{value}" if name else "")


@systems_with(Files)
async def test_progress_reaches_the_size(rig: Rig, tmp_path: Path) -> None:
    camera = rig.camera
    file = await _file_on_device(camera, tmp_path)
    seen: list[int] = []
    local = await camera.feature(Files).download(
        file, tmp_path / "home", progress=lambda received, total: seen.append(received)
    )
    assert seen == sorted(seen)
    assert seen[-1] == local.size


@systems_with(Files)
async def test_download_of_an_unknown_file_raises_and_leaves_nothing(rig: Rig, tmp_path: Path) -> None:
    with pytest.raises(AsynccamError):
        await rig.camera.feature(Files).download("no such file.mp4", tmp_path / "home")
    assert not list(tmp_path.glob("home/*"))


# -- trouble ----------------------------------------------------------------------------------------


@every_system
async def test_methods_raise_our_errors_when_the_device_is_gone(rig: Rig, tmp_path: Path) -> None:
    camera = rig.camera
    before = camera.info
    await rig.end_device()
    calls: list[Callable[[], Awaitable[object]]] = [camera.status]
    if camera.supports(Record):
        with suppress(
            TimeoutError
        ):  # one may wait for its connection to come back, as long as the caller does
            async with asyncio.timeout(2.0):
                with pytest.raises(AsynccamError):
                    await camera.feature(Record).arm(plan(tmp_path / "files"))
        calls.append(lambda: camera.feature(Record).stop(timeout=2.0))
    if camera.supports(Snapshot):
        calls.append(lambda: camera.feature(Snapshot).snapshot(tmp_path / "pictures"))
    if camera.supports(Files) and not camera.supports(Snapshot):  # a Snapshot camera remembers its pictures
        calls.append(lambda: camera.feature(Files).list_files())
    for call in calls:
        with pytest.raises(AsynccamError):
            async with asyncio.timeout(PATIENT):
                await call()
    assert camera.info.id == before.id


@every_system
async def test_camera_can_be_closed_when_the_device_is_gone(rig: Rig) -> None:
    await rig.end_device()
    async with asyncio.timeout(PATIENT):
        await rig.camera.aclose()
        await rig.camera.aclose()


@every_system
async def test_aclose_leaves_no_task_and_no_descriptor(rig: Rig) -> None:
    tasks, before = asyncio.all_tasks(), Holdings.now()
    camera = await rig.connect()
    await camera.status()
    await camera.aclose()
    await camera.aclose()
    await _no_task_gained(tasks)
    await _nothing_gained(before)


@every_system
async def test_connect_cancelled_at_each_await_leaves_nothing(rig: Rig) -> None:
    async def connect() -> None:
        await (await rig.connect()).aclose()

    tasks, before = asyncio.all_tasks(), Holdings.now()
    count = 1
    while await cancelled_at(connect(), count):
        count += 1
    await _no_task_gained(tasks)
    await _nothing_gained(before)


@every_system
async def test_address_of_another_system_is_refused(rig: Rig) -> None:
    other = "nanocam" if rig.system.name == "multicam" else "multicam"
    with pytest.raises(AddressError):
        await rig.system.connect(f"{other}://127.0.0.1:{Address.parse(rig.address).port}")


@every_system
async def test_unknown_camera_is_refused_and_leaves_nothing(rig: Rig) -> None:
    tasks, before = asyncio.all_tasks(), Holdings.now()
    with pytest.raises((NotFoundError, AddressError)):
        await rig.system.connect(f"{rig.address}/no-such-camera")
    await _no_task_gained(tasks)
    await _nothing_gained(before)


@every_system
async def test_nothing_at_an_address_is_a_connection_error(rig: Rig) -> None:
    await rig.end_device()
    with pytest.raises(ConnectionError):  # the builtin one: ours is a subclass
        await rig.connect()


async def _is_whole(local: LocalFile, directory: Path, name: str) -> None:
    data = local.path.read_bytes()
    assert local.path.parent == directory
    assert local.source == name
    assert local.size == len(data) > 0
    assert local.sha256 == hashlib.sha256(data).hexdigest()


async def _no_task_gained(before: "set[asyncio.Task[Any]]") -> None:
    """Wait until no task of a client is left; those of the device or service, in this process, go on."""

    def gained() -> list[str]:
        tasks = {task for task in asyncio.all_tasks() - before if task is not asyncio.current_task()}
        coroutines = [task.get_coro() for task in tasks if not task.done()]
        return [repr(coroutine) for coroutine in coroutines if not _is_of_a_device(coroutine)]

    with suppress(AssertionError):
        await eventually(lambda: not gained(), 10.0)
    assert gained() == []


def _is_of_a_device(coroutine: Any) -> bool:
    path = Path(coroutine.cr_code.co_filename)
    served = path.parent.name in ("device", "server", "simulator") or path.name == "web_protocol.py"
    return served or "tests" in path.parts


async def _nothing_gained(before: Holdings) -> None:
    """Wait until processes and descriptors are as before; threads of asyncio's pool stay for the next use."""

    def gained() -> list[str]:
        return [
            words for words in Holdings.now().gained_since(before) if not words.startswith("thread asyncio_")
        ]

    with suppress(AssertionError):
        await eventually(lambda: not gained(), 10.0)
    assert gained() == []
