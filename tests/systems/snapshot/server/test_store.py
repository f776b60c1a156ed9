"""SnapshotStore: list, pages, thumbnails, deletion and retention."""

import asyncio
import io
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from PIL import Image

from asynccam.errors import DeviceError, NotFoundError, StorageError, UsageError
from asynccam.runtime.event_hub import EventHub
from asynccam.systems.snapshot.server.events import SnapshotDeleted
from asynccam.systems.snapshot.server.models import StoredSnapshot
from asynccam.systems.snapshot.server.settings import Retention
from asynccam.systems.snapshot.server.store import SnapshotStore
from tests.support.cancelling import cancelled_at
from tests.support.fake_clock import FakeClock
from tests.support.v4l2 import a_jpeg
from tests.support.waiting import eventually

DAY = 86400.0
NOON = 1_790_000_000.0


@pytest_asyncio.fixture
async def events() -> AsyncIterator[EventHub]:
    hub = EventHub()
    yield hub
    await hub.aclose()


async def keep(
    store: SnapshotStore, camera: str = "front", at: float = NOON, data: bytes | None = None
) -> StoredSnapshot:
    async with store.part() as part:
        part.write_bytes(a_jpeg() if data is None else data)
        return await store.add(part, prefix="snapshot", camera=camera, taken_at=at)


def files(directory: Path) -> list[str]:
    return sorted(one.name for one in directory.iterdir())


async def test_store_adds_picture_with_name_and_time(tmp_path: Path) -> None:
    async with SnapshotStore(tmp_path / "made" / "here") as store:
        stored = await keep(store, "a/b", NOON + 0.123456)
        path = await store.path_of(stored.filename)
        assert path.read_bytes() == a_jpeg()
        assert path.stat().st_mtime_ns == stored.taken_ns
        assert stored.taken_at == pytest.approx(NOON + 0.123456, abs=1e-6)
        assert (stored.camera, stored.prefix, stored.size) == ("a/b", "snapshot", len(a_jpeg()))
        assert len(store) == 1
        assert store.size == stored.size
        assert files(store.directory) == [stored.filename]


async def test_store_keeps_two_pictures_of_one_moment(tmp_path: Path) -> None:
    async with SnapshotStore(tmp_path) as store:
        names = {(await keep(store)).filename for _ in range(5)}
        assert set(files(tmp_path)) == names
        assert len(names) == 5


async def test_store_pages_are_stable(tmp_path: Path) -> None:
    async with SnapshotStore(tmp_path) as store:
        for number in range(7):
            await keep(store, "ab"[number % 2], NOON + number)
        first = store.page(limit=3)
        assert [one.taken_at - NOON for one in first.items] == [6, 5, 4]
        assert first.total == 7
        await keep(store, "a", NOON + 10)
        await store.delete(first.items[2].filename)
        second = store.page(limit=3, after=first.next)
        assert [one.taken_at - NOON for one in second.items] == [3, 2, 1]
        last = store.page(limit=3, after=second.next)
        assert [one.taken_at - NOON for one in last.items] == [0]
        assert last.next is None
        only = store.page(camera="b")
        assert [one.taken_at - NOON for one in only.items] == [5, 3, 1]
        assert only.total == 3
        assert store.page(camera="c").items == ()
        newest = store.newest("b")
        assert newest is not None
        assert newest.taken_at == NOON + 5
        assert store.newest("c") is None


@pytest.mark.parametrize("after", ["", "x", "1", "-a", "²-a", "9" * 30 + "-a"])
async def test_store_page_continues_at_cursor(tmp_path: Path, after: str) -> None:
    async with SnapshotStore(tmp_path) as store:
        with pytest.raises(UsageError):
            store.page(after=after)


@pytest.mark.parametrize("limit", [0, -1, 1001])
async def test_store_page_checks_its_arguments(tmp_path: Path, limit: int) -> None:
    async with SnapshotStore(tmp_path) as store:
        with pytest.raises(UsageError):
            store.page(limit=limit)


async def test_store_lists_existing_pictures(tmp_path: Path) -> None:
    async with SnapshotStore(tmp_path) as store:
        stored = await keep(store, "☂/x")
    (tmp_path / "holiday.jpg").write_bytes(b"x")
    (tmp_path / "notes.txt").write_bytes(b"x")
    (tmp_path / ".hidden.jpg").write_bytes(b"x")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "link.jpg").symlink_to(tmp_path / "holiday.jpg")
    async with SnapshotStore(tmp_path) as store:
        found = {one.filename: one for one in store.page().items}
        assert set(found) == {stored.filename, "holiday.jpg"}
        assert found[stored.filename] == stored
        assert found["holiday.jpg"].camera is None


async def test_store_notices_foreign_changes(tmp_path: Path, events: EventHub) -> None:
    async with SnapshotStore(tmp_path, events=events, look=0.01) as store:
        stored = await keep(store)
        with events.stream(SnapshotDeleted) as told:
            (tmp_path / "holiday.jpg").write_bytes(b"x")
            await eventually(lambda: len(store) == 2, 20)
            (tmp_path / stored.filename).unlink()
            await eventually(lambda: len(store) == 1, 20)
            async with asyncio.timeout(20):
                event = await anext(told)
        assert (event.filename, event.camera, event.reason) == (stored.filename, "front", "found")


async def test_store_scan_keeps_concurrent_changes(tmp_path: Path) -> None:
    async with SnapshotStore(tmp_path, look=60) as store:
        first = await keep(store, at=NOON)

        async def come_and_go() -> None:
            for number in range(20):
                await keep(store, at=NOON + number + 1)
            await store.delete(first.filename)

        async def look() -> None:
            for _ in range(20):
                await store.look_again()

        await asyncio.gather(come_and_go(), look())
        assert len(store) == 20
        await store.look_again()
        assert sorted(one.filename for one in store.page().items) == files(tmp_path)


async def test_store_removes_unfinished_pictures(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path)
    async with store, store.part() as part:
        part.write_bytes(b"half")
        assert files(tmp_path) == [part.parent.name]
        async with SnapshotStore(tmp_path) as other:  # as if the first one had been killed
            assert files(tmp_path) == []
            assert len(other) == 0


async def test_store_removes_part_not_added(tmp_path: Path) -> None:
    async with SnapshotStore(tmp_path) as store:
        async with store.part() as part:
            part.write_bytes(b"x")
            part.with_suffix(".raw").write_bytes(b"y")
            assert len(files(tmp_path)) == 1
        assert files(tmp_path) == []


async def test_store_add_is_atomic_when_cancelled(tmp_path: Path) -> None:
    async with SnapshotStore(tmp_path, look=60) as store:
        count = 1

        async def once() -> None:
            await keep(store)

        while await cancelled_at(once(), count):
            assert all((tmp_path / name).read_bytes() == a_jpeg() for name in files(tmp_path))
            count += 1
        await store.look_again()
        assert len(store) == len(files(tmp_path)) > 0
        assert count > 3


@pytest.mark.parametrize(
    "name",
    ["../secret.jpg", "/etc/passwd", "a\0.jpg", "..", "", "link.jpg", "folder.jpg", "none.jpg", ".x.jpg"],
)
async def test_store_names_are_never_paths(tmp_path: Path, name: str) -> None:
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(a_jpeg())
    directory = tmp_path / "pictures"
    async with SnapshotStore(directory) as store:
        (directory / "link.jpg").symlink_to(secret)
        (directory / "folder.jpg").mkdir()
        (directory / ".x.jpg").write_bytes(a_jpeg())
        for ask in (store.path_of, store.thumbnail, store.delete):
            with pytest.raises(NotFoundError):
                await ask(name)
    assert secret.exists()
    assert (directory / "link.jpg").is_symlink()


async def test_store_reports_deletion_once(tmp_path: Path, events: EventHub) -> None:
    async with SnapshotStore(tmp_path, events=events) as store:
        stored = await keep(store)
        with events.stream(SnapshotDeleted) as told:
            await store.delete(stored.filename)
            async with asyncio.timeout(20):
                assert (await anext(told)).reason == "asked"
        assert files(tmp_path) == []
        assert len(store) == 0
        with pytest.raises(NotFoundError):
            await store.delete(stored.filename)


async def test_store_scan_reports_reason_of_deletion(tmp_path: Path, events: EventHub) -> None:
    async with SnapshotStore(tmp_path, events=events) as store:
        with events.stream(SnapshotDeleted) as told:
            for number in range(100):
                stored = await keep(store, at=NOON + number)
                await asyncio.gather(store.delete(stored.filename), store.look_again(), store.look_again())
            async with asyncio.timeout(20):
                reasons = [(await anext(told)).reason for _ in range(100)]
    assert set(reasons) == {"asked"}


async def test_thumbnail_is_small_upright_and_made_once(tmp_path: Path) -> None:
    async with SnapshotStore(tmp_path) as store:
        stored = await keep(store, data=a_jpeg(800, 400))
        made = await asyncio.gather(*(store.thumbnail(stored.filename, side=100) for _ in range(20)))
        assert len({id(one) for one in made}) == 1
        with Image.open(io.BytesIO(made[0])) as picture:
            assert (picture.format, picture.size) == ("JPEG", (100, 50))
        upright = io.BytesIO()
        exif = Image.Exif()
        exif[0x0112] = 6  # turned by a quarter
        Image.new("RGB", (80, 40)).save(upright, "JPEG", exif=exif)
        turned = await keep(store, data=upright.getvalue())
        with Image.open(io.BytesIO(await store.thumbnail(turned.filename, side=40))) as picture:
            assert picture.size == (20, 40)


async def test_thumbnail_follows_replaced_picture(tmp_path: Path) -> None:
    async with SnapshotStore(tmp_path) as store:
        stored = await keep(store, data=a_jpeg(64, 48))
        first = await store.thumbnail(stored.filename)
        path = await store.path_of(stored.filename)
        path.write_bytes(a_jpeg(48, 64))
        os.utime(path, (NOON + 5, NOON + 5))
        assert await store.thumbnail(stored.filename) != first


async def test_thumbnails_stay_within_their_memory(tmp_path: Path) -> None:
    async with SnapshotStore(tmp_path, thumbnail_bytes=1) as store:
        stored = await keep(store)
        first = await store.thumbnail(stored.filename)
        assert await store.thumbnail(stored.filename) is not first


@pytest.mark.parametrize("data", [b"", b"\xff\xd8\xff", b"GIF89a" + bytes(100), a_jpeg()[:200]])
async def test_thumbnail_of_other_file_is_refused(tmp_path: Path, data: bytes) -> None:
    async with SnapshotStore(tmp_path) as store:
        stored = await keep(store, data=data)
        with pytest.raises(DeviceError):
            await store.thumbnail(stored.filename)
        with pytest.raises(UsageError):
            await store.thumbnail(stored.filename, side=5000)


async def test_retention_deletes_by_age_and_size(tmp_path: Path, events: EventHub) -> None:
    now = time.time()
    size = len(a_jpeg())
    async with SnapshotStore(tmp_path, events=events, look=60) as store:
        old = await keep(store, at=now - 3 * DAY)
        unset = await keep(store, at=1000.0)  # taken before the clock was set
        recent = [await keep(store, at=now - 100 + one) for one in range(4)]
        foreign = tmp_path / "holiday.jpg"
        foreign.write_bytes(a_jpeg())
        os.utime(foreign, (NOON - 1000 * DAY, NOON - 1000 * DAY))
        await store.look_again()
        assert await store.sweep() == ()
        store.retention = Retention(max_age_days=2)
        assert await store.sweep() == (old.filename,)
        store.retention = Retention(max_size_mb=3.5 * size / 1e6)
        assert await store.sweep() == (unset.filename, recent[0].filename)
        assert files(tmp_path) == sorted(["holiday.jpg", *(one.filename for one in recent[1:])])


async def test_retention_ignores_clock_jumps(tmp_path: Path) -> None:
    clock = FakeClock(NOON)
    keeping = Retention(max_age_days=2)
    async with SnapshotStore(tmp_path, look=600, retention=keeping, clock=clock) as store:
        stored = await keep(store, at=NOON)
        clock.leap(3600 * 24 * 365)
        assert await store.sweep() == ()
        clock.leap(-3600 * 24 * 365)
        assert await store.sweep() == ()
        assert files(tmp_path) == [stored.filename]
        clock.move(3 * DAY)
        await store.sweep()
        await eventually(lambda: files(tmp_path) == [], what="time that went by is no leap")
        stored = await keep(store, at=clock.time())
        clock.leap(3 * DAY)
        assert await store.sweep() == ()
        clock.move(3700)
        assert await store.sweep() == ()
        assert files(tmp_path) == [stored.filename], "it is an hour old, whatever the clock says"
        clock.move(2 * DAY)
        await store.sweep()  # or the one that the new picture woke
        await eventually(lambda: files(tmp_path) == [], what="time that went by")


@pytest.mark.parametrize("found", [False, True])
@pytest.mark.parametrize("step", [3.0, -3.0, 7200.0, -7200.0, 365 * DAY, -365 * DAY])
async def test_retention_ignores_a_clock_that_is_set(tmp_path: Path, step: float, found: bool) -> None:
    clock = FakeClock(NOON)
    keeping = Retention(max_age_days=2)
    async with SnapshotStore(tmp_path, look=600, retention=keeping, clock=clock) as store:
        names = [(await keep(store, at=NOON - DAY)).filename]
    async with SnapshotStore(tmp_path, look=600, retention=keeping, clock=clock) as store:
        if not found:
            await store.delete(names[0])
            names = [(await keep(store, at=NOON)).filename]
            clock.move(DAY)
        clock.leap(step)
        assert await store.sweep() == ()
        clock.move(DAY - 5)
        assert await store.sweep() == ()
        assert files(tmp_path) == names
        clock.move(10)
        if found and step < -10:
            # Nobody knows whether the clock is wrong now, or was when the picture was made.
            assert await store.sweep() == ()
            clock.move(-step)
        await store.sweep()
        await eventually(lambda: files(tmp_path) == [], what="two days went by")


@pytest.mark.parametrize("step", [3.0, -3.0, 7200.0, -7200.0, 365 * DAY, -365 * DAY])
async def test_store_add_survives_clock_change(tmp_path: Path, step: float) -> None:
    clock = FakeClock(NOON)
    keeping = Retention(max_age_days=0.05)
    async with SnapshotStore(tmp_path, look=600, retention=keeping, clock=clock) as store:
        taken_at = clock.time()
        clock.leap(step)
        stored = await keep(store, at=taken_at)
        assert await store.sweep() == ()
        assert files(tmp_path) == [stored.filename]
        clock.move(0.06 * DAY)
        await store.sweep()
        await eventually(lambda: files(tmp_path) == [])


@pytest.mark.parametrize("step", [3.0, -3.0, 7200.0, -7200.0, 365 * DAY, -365 * DAY])
async def test_retention_by_size_deletes_oldest_after_clock_change(tmp_path: Path, step: float) -> None:
    clock = FakeClock(NOON)
    async with SnapshotStore(tmp_path, look=600, clock=clock) as store:
        before = [(await keep(store, at=NOON - 20)).filename]
    async with SnapshotStore(tmp_path, look=600, clock=clock) as store:
        clock.move(10)
        before.append((await keep(store, at=clock.time())).filename)
        clock.move(10)
        clock.leap(step)
        after = [(await keep(store, at=clock.time() + one)).filename for one in range(2)]
        store.retention = Retention(max_size_mb=3.5 * len(a_jpeg()) / 1e6)
        assert await store.sweep() == (before[0],)
        store.retention = Retention(max_size_mb=2.5 * len(a_jpeg()) / 1e6)
        assert await store.sweep() == (before[1],)
        assert files(tmp_path) == sorted(after)


async def test_retention_ignores_a_clock_that_was_ahead_at_start(tmp_path: Path) -> None:
    clock = FakeClock(NOON)
    async with SnapshotStore(tmp_path, look=600, clock=clock) as store:
        stored = await keep(store, at=NOON)
    clock.leap(30 * DAY)
    async with SnapshotStore(tmp_path, look=600, clock=clock) as store:
        clock.leap(-30 * DAY)
        store.retention = Retention(max_age_days=2)
        assert await store.sweep() == ()
        assert files(tmp_path) == [stored.filename]


async def test_retention_change_applies_at_once(tmp_path: Path) -> None:
    async with SnapshotStore(tmp_path, look=600) as store:
        names = [(await keep(store, at=NOON + one)).filename for one in range(3)]
        store.retention = Retention(max_size_mb=2.5 * len(a_jpeg()) / 1e6)
        store.wake()
        await eventually(lambda: files(tmp_path) == names[1:], 20)
        names.append((await keep(store, at=NOON + 3)).filename)
        await eventually(lambda: files(tmp_path) == names[2:], 20)


async def test_store_survives_missing_directory(tmp_path: Path) -> None:
    directory = tmp_path / "card"
    async with SnapshotStore(directory, look=0.01) as store:
        stored = await keep(store)
        directory.rename(tmp_path / "away")
        with pytest.raises(StorageError):
            await keep(store)
        with pytest.raises(NotFoundError):
            await store.path_of(stored.filename)
        (tmp_path / "away").rename(directory)
        (directory / "more.jpg").write_bytes(b"x")
        await eventually(lambda: len(store) == 2, 20)


async def test_store_lists_nothing_of_removed_card(tmp_path: Path, events: EventHub) -> None:
    directory = tmp_path / "card"
    async with SnapshotStore(directory, look=0.01, events=events) as store:
        stored = await keep(store)
        with events.stream(SnapshotDeleted) as told:
            directory.rename(tmp_path / "away")
            await eventually(lambda: len(store) == 0)
            assert (await anext(told)).filename == stored.filename
        assert store.newest("front") is None
        with pytest.raises(StorageError, match=f"does not exist: {directory}$"):
            async with store.part():
                raise AssertionError
        (tmp_path / "away").rename(directory)
        await eventually(lambda: len(store) == 1)


async def test_store_directory_that_cannot_be_created(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError):
        async with SnapshotStore(tmp_path / "file" / "x"):
            pass
    with pytest.raises(UsageError):
        SnapshotStore(tmp_path, look=0)
