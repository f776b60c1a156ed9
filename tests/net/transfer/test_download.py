"""A file comes over a bare socket: all of it, exactly it, by either engine and on either loop."""

import asyncio
import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from socket import socket

import pytest

from asynccam.errors import UsageError
from asynccam.net.transfer import download
from asynccam.net.transfer.base import BYTES_PER_TURN, TransferBackend
from asynccam.net.transfer.download import TransferMethod, receive_file
from asynccam.net.transfer.partfile import PartFile
from tests.support.parts import contents, sample, sha256
from tests.support.tcp_pair import pumping, send, tcp_pair
from tests.support.waiting import eventually

Pair = tuple[socket, socket]
MIB = 1024 * 1024


@pytest.fixture(params=["splice", "buffered"])
def engine(request: pytest.FixtureRequest) -> TransferMethod:
    choice: TransferMethod = request.param
    return choice


@pytest.mark.parametrize(
    "size",
    [1, 1000, BYTES_PER_TURN - 1, BYTES_PER_TURN, BYTES_PER_TURN + 1, 2 * BYTES_PER_TURN, 3 * MIB + 17],
)
async def test_receive_every_byte(tmp_path: Path, pair: Pair, engine: TransferMethod, size: int) -> None:
    ours, peer = pair
    data = sample(size)
    part = await PartFile.open(tmp_path, "a", size=size)
    with pumping(peer, data):
        await receive_file(ours, part, size, method=engine)
    file = await part.commit("a")
    assert (file.size, file.sha256) == (size, sha256(data))
    assert contents(tmp_path) == {"a": data}


async def test_receive_empty_file(tmp_path: Path, pair: Pair, engine: TransferMethod) -> None:
    steps: list[tuple[int, int | None]] = []
    part = await PartFile.open(tmp_path, "a", size=0)
    await receive_file(pair[0], part, 0, method=engine, progress=lambda *step: steps.append(step))
    await part.commit("a")
    assert contents(tmp_path) == {"a": b""}
    assert steps == [(0, 0)]


@pytest.mark.parametrize("ahead", [1, 999, 1000])
async def test_receive_with_a_prefix(tmp_path: Path, pair: Pair, engine: TransferMethod, ahead: int) -> None:
    ours, peer = pair
    data = sample(1000)
    await send(peer, data[ahead:])
    part = await PartFile.open(tmp_path, "a", size=1000)
    await receive_file(ours, part, 1000, prefix=data[:ahead], method=engine)
    assert (await part.commit("a")).sha256 == sha256(data)


@pytest.mark.parametrize("size", [10, 2 * BYTES_PER_TURN, 2 * BYTES_PER_TURN + 1])
async def test_receive_leaves_what_follows_in_the_socket(
    tmp_path: Path, pair: Pair, engine: TransferMethod, size: int
) -> None:
    ours, peer = pair
    data = sample(size)
    part = await PartFile.open(tmp_path, "a", size=size)
    with pumping(peer, data + b"the next answer"):
        await receive_file(ours, part, size, method=engine)
    await part.commit("a")
    assert contents(tmp_path) == {"a": data}
    loop = asyncio.get_running_loop()
    assert await loop.sock_recv(ours, 100) == b"the next answer"
    await loop.sock_sendall(ours, b"still open")
    assert await loop.sock_recv(peer, 100) == b"still open"


async def test_two_files_on_one_connection(tmp_path: Path, pair: Pair, engine: TransferMethod) -> None:
    ours, peer = pair
    with pumping(peer, sample(MIB, 1) + sample(MIB, 2)):
        for number in (1, 2):
            async with await PartFile.open(tmp_path, str(number), size=MIB) as part:
                await receive_file(ours, part, MIB, method=engine)
                await part.commit("")
    assert contents(tmp_path) == {"1": sample(MIB, 1), "2": sample(MIB, 2)}


async def test_byte_by_byte(tmp_path: Path, pair: Pair, engine: TransferMethod) -> None:
    ours, peer = pair
    data = sample(50)
    part = await PartFile.open(tmp_path, "a", size=50)
    coming = asyncio.create_task(receive_file(ours, part, 50, method=engine))
    for number in range(50):
        await send(peer, data[number : number + 1])
        await eventually(lambda: part.received > number)  # noqa: B023 - awaited in this very pass
    await coming
    await part.commit("a")
    assert contents(tmp_path) == {"a": data}


async def test_twenty_at_once_under_one_name(tmp_path: Path, engine: TransferMethod) -> None:
    size = 2 * MIB + 3

    async def one(number: int) -> tuple[str, str]:
        data = sample(size, number)
        with tcp_pair() as (ours, peer):
            part = await PartFile.open(tmp_path, "video.mp4", size=size)
            with pumping(peer, data):
                await receive_file(ours, part, size, method=engine)
            file = await part.commit("video.mp4")
        return file.sha256, await asyncio.to_thread(
            lambda: hashlib.sha256(file.path.read_bytes()).hexdigest()
        )

    results = await asyncio.gather(*(one(number) for number in range(20)))
    assert results == [(sha256(sample(size, number)),) * 2 for number in range(20)]
    assert len(list(tmp_path.iterdir())) == 20


async def test_receive_yields_after_every_turn(tmp_path: Path, pair: Pair, engine: TransferMethod) -> None:
    """Counted, not timed: a transfer that never yields while data is there makes a few passes only."""
    ours, peer = pair
    passes = 0

    async def others() -> None:
        nonlocal passes
        while True:
            passes += 1
            await asyncio.sleep(0)

    part = await PartFile.open(tmp_path, "a", size=32 * MIB)
    counting = asyncio.create_task(others())
    with pumping(peer, bytes(32 * MIB)):
        await receive_file(ours, part, 32 * MIB, method=engine)
    counting.cancel()
    await part.discard()
    least = 32 * MIB // BYTES_PER_TURN if engine == "splice" else 32 * MIB // (2 * BYTES_PER_TURN)
    assert passes >= least


# -- progress -----------------------------------------------------------------------------------


async def test_progress_from_first_to_last(tmp_path: Path, pair: Pair, engine: TransferMethod) -> None:
    ours, peer = pair
    steps: list[tuple[int, int | None]] = []
    data = sample(3000)
    part = await PartFile.open(tmp_path, "a", size=3000)
    coming = asyncio.create_task(
        receive_file(
            ours, part, 3000, prefix=data[:10], method=engine, progress=lambda *step: steps.append(step)
        )
    )
    for end in (1000, 2000):
        await send(peer, data[end - 990 if end == 1000 else end - 1000 : end])
        await eventually(lambda: steps and steps[-1] == (end, 3000))  # noqa: B023 - awaited in this very pass
    await send(peer, data[2000:])
    await coming
    await part.discard()
    assert steps == [(10, 3000), (1000, 3000), (2000, 3000), (3000, 3000)]


async def test_progress_is_reported_once_per_interval(
    tmp_path: Path, pair: Pair, engine: TransferMethod, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "_PROGRESS_INTERVAL", 1000.0)
    ours, peer = pair
    reported: list[int] = []
    part = await PartFile.open(tmp_path, "a", size=32 * MIB)
    with pumping(peer, bytes(32 * MIB)):
        await receive_file(
            *(ours, part, 32 * MIB),
            method=engine,
            stall_timeout=4000.0,
            progress=lambda received, _: reported.append(received),
        )
    await part.discard()
    assert reported == [0, 32 * MIB], "the begin and the end, as no interval has passed"


@pytest.mark.parametrize("at", ["first", "between", "last"])
async def test_progress_error_is_raised(tmp_path: Path, pair: Pair, engine: TransferMethod, at: str) -> None:
    ours, peer = pair

    def listen(received: int, total: int | None) -> None:
        if received == {"first": 0, "between": 10, "last": 20}[at]:
            raise LookupError(f"not at {received}")

    part = await PartFile.open(tmp_path, "a", size=20)
    coming = asyncio.create_task(receive_file(ours, part, 20, method=engine, progress=listen))
    await send(peer, sample(10))
    if at == "last":
        await send(peer, sample(20)[10:])
    with pytest.raises(LookupError, match="not at"):
        await coming
    held = {"first": {}, "between": {"a.part": sample(10)}, "last": {"a.part": sample(20)}}
    assert contents(tmp_path) == held[at]


# -- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "announced", "prefix"), [(2, 2, b"abc"), (5, 6, b""), (6, 5, b"")])
async def test_receive_sizes_that_do_not_fit(
    tmp_path: Path, pair: Pair, engine: TransferMethod, size: int, announced: int, prefix: bytes
) -> None:
    part = await PartFile.open(tmp_path, "a", size=announced)
    with pytest.raises(UsageError, match="do not fit"):
        await receive_file(pair[0], part, size, prefix=prefix, method=engine)
    assert contents(tmp_path) == {}


async def test_splice_is_refused_on_other_platforms(
    tmp_path: Path, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, peer = pair
    monkeypatch.setattr(sys, "platform", "darwin")
    made: list[str] = []
    of_base: Callable[..., None] = TransferBackend.__init__

    def remember(self: TransferBackend, *args: object) -> None:
        made.append(type(self).__name__)
        of_base(self, *args)

    monkeypatch.setattr(TransferBackend, "__init__", remember)
    part = await PartFile.open(tmp_path, "a", size=3)
    await send(peer, b"abc")
    await receive_file(ours, part, 3)
    await part.commit("a")
    assert made == ["BufferedTransfer"]
    async with await PartFile.open(tmp_path, "b", size=3) as other:
        with pytest.raises(UsageError, match="splice needs Linux"):
            await receive_file(ours, other, 3, method="splice")
