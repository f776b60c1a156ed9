"""A part becomes a whole file, stays a part or goes: never half of one under the other's name."""

import asyncio
import os
import shutil
import sys
from pathlib import Path

import pytest

from asynccam.errors import (
    InsufficientSpaceError,
    RemoteProtocolError,
    StateError,
    StorageError,
    TransferError,
    UsageError,
)
from asynccam.model.digest import DigestName
from asynccam.net.transfer.partfile import PartFile
from tests.support.cancelling import cancelled_at
from tests.support.digests import digest_of
from tests.support.parts import contents, longest_file, sample, sha256
from tests.support.waiting import passes

MIB = 1024 * 1024


async def test_write_and_commit(tmp_path: Path) -> None:
    data = sample(100_000)
    part = await PartFile.open(tmp_path, "../a.mp4", size=len(data))
    assert part.path == tmp_path / "a.mp4.part"
    assert part.target == tmp_path / "a.mp4"
    await part.write(data[:1])
    await part.write(bytearray(data[1:500]))
    await part.write(memoryview(data)[500:])
    assert contents(tmp_path) == {"a.mp4.part": data}
    file = await part.commit("../a.mp4")
    assert contents(tmp_path) == {"a.mp4": data}
    assert (file.path, file.size, file.source) == (tmp_path / "a.mp4", len(data), "../a.mp4")
    assert file.sha256 == sha256(data)
    assert file.seconds > 0


async def test_open_makes_the_directory(tmp_path: Path) -> None:
    async with await PartFile.open(tmp_path / "take" / "camera", "a", size=0) as part:
        file = await part.commit("a")
    assert file.path == tmp_path / "take" / "camera" / "a"
    assert file.sha256 == sha256(b"")


async def test_without_digest(tmp_path: Path) -> None:
    part = await PartFile.open(tmp_path, "a", size=3, digest=False)
    await part.write(b"abc")
    assert (await part.commit("a")).sha256 == ""


async def test_first_bytes_are_written_at_once(tmp_path: Path) -> None:
    data = sample(1000)
    part = await PartFile.open(tmp_path, "a", size=len(data), first=data[:400])
    assert part.received == 400
    assert contents(tmp_path) == {"a.part": data[:400]}
    await part.write(data[400:])
    assert (await part.commit("a")).sha256 == sha256(data)
    assert contents(tmp_path) == {"a": data}


async def test_first_bytes_on_a_full_disk_are_kept(tmp_path: Path) -> None:
    data = sample(4000)
    with longest_file(1000), pytest.raises(StorageError, match=r"cannot write .*a\.part: File too large"):
        await PartFile.open(tmp_path, "a", size=None, first=data)
    assert contents(tmp_path) == {"a.part": data[:1000]}


async def test_first_bytes_of_a_cancelled_open_are_kept(tmp_path: Path) -> None:
    opening = asyncio.create_task(PartFile.open(tmp_path, "a", size=10, first=b"abc"))
    await passes(1)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert contents(tmp_path) == {"a.part": b"abc"}


@pytest.mark.parametrize("size", [MIB, MIB + 1, 9 * MIB])
async def test_digest_where_files_cannot_be_read_at_an_offset(
    tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "preadv")
    data = sample(size)
    part = await PartFile.open(tmp_path, "a", size=size)
    await part.write(data)
    assert (await part.commit("a")).sha256 == sha256(data)


@pytest.mark.parametrize("size", [0, 1000, 9 * MIB])
@pytest.mark.parametrize("name", ["blake3", "xxh3"])
async def test_digest_by_another_algorithm(tmp_path: Path, name: DigestName, size: int) -> None:
    data = sample(size)
    part = await PartFile.open(tmp_path, "a", size=size, digest=name)
    await part.write(data)
    file = await part.commit("a")
    assert (file.sha256, file.digest) == ("", f"{name}:{digest_of(name, data)}")


async def test_digest_by_another_algorithm_without_a_head(tmp_path: Path) -> None:
    part = await PartFile.open(tmp_path, "a", size=None, digest="blake3")
    await part.write(sample(1000))
    await part.drop_head(100)
    assert (await part.commit("a")).digest == f"blake3:{digest_of('blake3', sample(1000)[100:])}"


async def test_digest_that_cannot_be_computed_makes_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "blake3", None)
    with pytest.raises(UsageError, match="needs blake3"):
        await PartFile.open(tmp_path / "new", "a", size=1, digest="blake3")
    assert not (tmp_path / "new").exists()


async def test_digest_over_many_slices(tmp_path: Path) -> None:
    data = sample(20 * MIB + 7)
    async with await PartFile.open(tmp_path, "a", size=len(data)) as part:
        for start in range(0, len(data), MIB):
            await part.write(data[start : start + MIB])
        assert await part.digest() == sha256(data)
        assert (await part.commit("a")).sha256 == sha256(data)


async def test_writes_at_the_same_time_keep_their_order(tmp_path: Path) -> None:
    pieces = [bytes([number]) * 10_000 for number in range(50)]
    async with await PartFile.open(tmp_path, "a", size=None) as part:
        await asyncio.gather(*(part.write(piece) for piece in pieces))
        await part.commit("a")
    assert contents(tmp_path) == {"a": b"".join(pieces)}


# -- names --------------------------------------------------------------------------------------


async def test_open_skips_taken_names(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"old")
    (tmp_path / "a-1.mp4.part").write_bytes(b"an earlier part")
    (tmp_path / "a-2.mp4").symlink_to(tmp_path / "nowhere")
    async with await PartFile.open(tmp_path, "a.mp4", size=3) as part:
        await part.write(b"new")
        file = await part.commit("a.mp4")
    assert file.path == tmp_path / "a-3.mp4"
    assert (tmp_path / "a.mp4").read_bytes() == b"old"
    assert (tmp_path / "a-1.mp4.part").read_bytes() == b"an earlier part"


async def test_commit_skips_a_name_taken_meanwhile(tmp_path: Path) -> None:
    async with await PartFile.open(tmp_path, "a.mp4", size=3) as part:
        await part.write(b"new")
        (tmp_path / "a.mp4").write_bytes(b"somebody else's")
        file = await part.commit("a.mp4")
    assert file.path == part.target == tmp_path / "a-1.mp4"
    assert contents(tmp_path) == {"a.mp4": b"somebody else's", "a-1.mp4": b"new"}


async def test_twenty_of_one_name_lose_nothing(tmp_path: Path) -> None:
    async def one(number: int) -> Path:
        data = sample(1000, number)
        async with await PartFile.open(tmp_path, "video.mp4", size=len(data)) as part:
            await part.write(data)
            return (await part.commit("video.mp4")).path

    paths = await asyncio.gather(*(one(number) for number in range(20)))
    assert len(set(paths)) == 20
    assert [path.read_bytes() for path in paths] == [sample(1000, number) for number in range(20)]
    assert len(contents(tmp_path)) == 20


# -- room ---------------------------------------------------------------------------------------


async def test_open_checks_free_space(tmp_path: Path) -> None:
    needed = shutil.disk_usage(tmp_path).free + 1024 * MIB
    with pytest.raises(InsufficientSpaceError, match="has room for") as refused:
        await PartFile.open(tmp_path, "a", size=needed)
    assert refused.value.needed == needed > refused.value.free > 0
    assert contents(tmp_path) == {}


async def test_open_reserves_space(tmp_path: Path) -> None:
    part = await PartFile.open(tmp_path, "a", size=4 * MIB)
    assert (part.path.stat().st_size, part.path.stat().st_blocks * 512 >= 4 * MIB) == (0, True)
    await part.write(b"abc")
    assert await part.keep() == part.path
    assert part.path.stat().st_size == 3
    assert part.path.stat().st_blocks * 512 < MIB, "what was not used is given back"


async def test_open_space_taken_after_the_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The check sees more room than there is, as it does when twenty downloads look before any has begun.
    free = [1 << 62]
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(
        shutil, "disk_usage", lambda _: usage._replace(free=free.pop() if free else usage.free)
    )
    with pytest.raises(InsufficientSpaceError) as refused:
        await PartFile.open(tmp_path, "a", size=1 << 50)
    assert (refused.value.needed, refused.value.free) == (1 << 50, usage.free)
    assert contents(tmp_path) == {}


async def test_write_to_a_full_disk_keeps_the_part(tmp_path: Path) -> None:
    data = sample(100_000)
    part = await PartFile.open(tmp_path, "a", size=None)
    with longest_file(60_000), pytest.raises(StorageError, match=r"cannot write .*a.part: File too large"):
        await part.write(data)
    assert part.received == 60_000
    assert await part.keep() == part.path
    assert contents(tmp_path) == {"a.part": data[:60_000]}


@pytest.mark.parametrize("obstacle", ["file", "missing permission"])
async def test_open_in_an_unusable_directory(tmp_path: Path, obstacle: str) -> None:
    directory = tmp_path / "taken"
    if obstacle == "file":
        directory.write_bytes(b"")
    else:
        directory = Path("/proc/self/not-here")  # refuses root as well
    with pytest.raises(StorageError, match="cannot make a file in"):
        await PartFile.open(directory, "a", size=1)


async def test_open_less_than_the_first_bytes(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="size must be >= 3, not 2"):
        await PartFile.open(tmp_path, "a", size=2, first=b"abc")
    assert contents(tmp_path) == {}


async def test_open_negative_size(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not -1"):
        await PartFile.open(tmp_path, "a", size=-1)


# -- ends ---------------------------------------------------------------------------------------


async def test_write_more_than_announced(tmp_path: Path) -> None:
    async with await PartFile.open(tmp_path, "a", size=3) as part:
        await part.write(b"ab")
        with pytest.raises(RemoteProtocolError, match="more than the announced 3 bytes"):
            await part.write(b"cd")
    assert contents(tmp_path) == {"a.part": b"ab"}


async def test_commit_less_than_announced(tmp_path: Path) -> None:
    part = await PartFile.open(tmp_path, "a", size=3)
    await part.write(b"ab")
    with pytest.raises(TransferError, match="a ended after 2 of 3 bytes") as short:
        await part.commit("a")
    assert (short.value.part, short.value.received, short.value.expected) == (part.path, 2, 3)
    assert contents(tmp_path) == {"a.part": b"ab"}


async def test_empty_part_is_not_kept(tmp_path: Path) -> None:
    part = await PartFile.open(tmp_path, "a", size=3)
    assert await part.keep() is None
    assert contents(tmp_path) == {}


async def test_discard_removes_what_came(tmp_path: Path) -> None:
    part = await PartFile.open(tmp_path, "a", size=3)
    await part.write(b"ab")
    await part.discard()
    await part.discard()
    assert await part.keep() is None
    assert contents(tmp_path) == {}


async def test_ended_part_takes_nothing(tmp_path: Path) -> None:
    part = await PartFile.open(tmp_path, "a", size=None)
    await part.write(b"ab")
    kept = await part.keep()
    assert await part.keep() == kept == part.path
    await part.discard()
    with pytest.raises(StateError, match=r"a\.part is kept"):
        await part.write(b"c")
    with pytest.raises(StateError, match=r"a\.part is kept"):
        await part.commit("a")
    assert contents(tmp_path) == {"a.part": b"ab"}


async def test_committed_file_is_neither_kept_nor_discarded(tmp_path: Path) -> None:
    async with await PartFile.open(tmp_path, "a", size=2) as part:
        await part.write(b"ab")
        await part.commit("a")
        assert await part.keep() is None
        await part.discard()
    assert contents(tmp_path) == {"a": b"ab"}


@pytest.mark.parametrize("digest", [True, False])
async def test_commit_of_a_part_truncated_elsewhere(tmp_path: Path, digest: bool) -> None:
    part = await PartFile.open(tmp_path, "a", size=4, digest=digest)
    await part.write(b"abcd")
    os.truncate(part.path, 2)
    with pytest.raises(StorageError, match=r"became shorter|holds 2 bytes, 4 were written"):
        await part.commit("a")
    assert list(contents(tmp_path)) == ["a.part"]


async def test_commit_in_a_removed_directory(tmp_path: Path) -> None:
    part = await PartFile.open(tmp_path / "gone", "a", size=2)
    await part.write(b"ab")
    shutil.rmtree(tmp_path / "gone")
    with pytest.raises(StorageError, match="cannot put on disk"):
        await part.commit("a")


# -- cancellation -------------------------------------------------------------------------------


async def whole_life(directory: Path, data: bytes) -> None:
    async with await PartFile.open(directory, "a", size=len(data)) as part:
        for start in range(0, len(data), 40_000):
            await part.write(data[start : start + 40_000])
        await part.commit("a")


async def test_cancelled_at_every_await(tmp_path: Path) -> None:
    """The rest, that no descriptor, thread or task is left, is watched by a fixture for all tests."""
    data = sample(100_000)
    ends: list[dict[str, bytes]] = []
    for count in range(1, 100):
        directory = tmp_path / str(count)
        cancelled = await cancelled_at(whole_life(directory, data), count)
        ends.append(contents(directory))
        if not cancelled:
            break
    for end in ends:
        assert end in (
            {},
            {"a.part": data[:40_000]},
            {"a.part": data[:80_000]},
            {"a.part": data},
            {"a": data},
        )
    assert ends[0] == {}
    assert {"a.part": data[:40_000]} in ends
    assert {"a.part": data} in ends
    assert ends[-1] == {"a": data}


async def test_second_cancellation_does_not_interrupt_cleanup(tmp_path: Path) -> None:
    for count in range(30):
        directory = tmp_path / str(count)
        task = asyncio.create_task(whole_life(directory, sample(200_000)))
        await passes(count)
        for _ in range(5):
            task.cancel()
            await passes(1)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not directory.exists() or set(contents(directory)) <= {"a.part", "a"}
