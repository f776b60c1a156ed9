"""A transfer that ends before the file does: every byte that came is kept, and nothing else stays."""

import asyncio
import fcntl
import os
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path
from socket import socket

import pytest

from asynccam.errors import StateError, StorageError, TransferError
from asynccam.net.transfer import splice
from asynccam.net.transfer.base import BYTES_PER_TURN, BufferedTransfer, TransferBackend
from asynccam.net.transfer.download import TransferMethod, receive_file
from asynccam.net.transfer.partfile import PartFile
from tests.support.cancelling import cancelled_at
from tests.support.parts import contents, longest_file, sample, sha256
from tests.support.tcp_pair import pumping, reset, send, tcp_pair
from tests.support.waiting import eventually, outlasting, passes

Pair = tuple[socket, socket]
MIB = 1024 * 1024


@pytest.fixture(params=["splice", "buffered"])
def engine(request: pytest.FixtureRequest) -> TransferMethod:
    choice: TransferMethod = request.param
    return choice


def holds(directory: Path, data: bytes) -> bool:
    """Return whether the directory has the part with exactly these bytes, or nothing where none came."""
    return contents(directory) == ({"a.part": data} if data else {})


# -- the peer -----------------------------------------------------------------------------------


@pytest.mark.parametrize("sent", [0, 1, 100, 999])
@pytest.mark.parametrize("ahead", [0, 1])
async def test_peer_closes_early(
    tmp_path: Path, pair: Pair, engine: TransferMethod, sent: int, ahead: int
) -> None:
    ours, peer = pair
    data = sample(1000 + ahead)
    await send(peer, data[ahead : ahead + sent])
    peer.close()
    part = await PartFile.open(tmp_path, "a", size=1000 + ahead)
    with pytest.raises(TransferError, match="peer closed the connection after") as broken:
        await receive_file(ours, part, 1000 + ahead, prefix=data[:ahead], method=engine)
    came = ahead + sent
    assert (broken.value.received, broken.value.expected) == (came, 1000 + ahead)
    assert broken.value.part == (part.path if came else None)
    assert str(ours.getsockname()[1]) not in str(broken.value)
    assert holds(tmp_path, data[:came])


@pytest.mark.parametrize("sent", [BYTES_PER_TURN - 1, BYTES_PER_TURN, BYTES_PER_TURN + 1, 2 * MIB])
async def test_peer_closes_between_turns(
    tmp_path: Path, pair: Pair, engine: TransferMethod, sent: int
) -> None:
    ours, peer = pair
    data = sample(sent)
    part = await PartFile.open(tmp_path, "a", size=sent + 1)
    with pumping(peer, data):
        coming = asyncio.create_task(receive_file(ours, part, sent + 1, method=engine))
        await eventually(lambda: part.received == sent)
    peer.close()
    with pytest.raises(TransferError) as broken:
        await coming
    assert broken.value.received == sent
    assert holds(tmp_path, data)


async def test_error_names_file_and_peer(tmp_path: Path, pair: Pair, engine: TransferMethod) -> None:
    ours, peer = pair
    port = peer.getsockname()[1]
    peer.close()
    part = await PartFile.open(tmp_path, "../a", size=5)
    with pytest.raises(TransferError, match=rf"a from 127\.0\.0\.1:{port}: .* after 0 of 5 bytes"):
        await receive_file(ours, part, 5, method=engine)


@pytest.mark.parametrize("sent", [0, 1000])
async def test_peer_resets(tmp_path: Path, pair: Pair, engine: TransferMethod, sent: int) -> None:
    ours, peer = pair
    data = sample(2000)
    part = await PartFile.open(tmp_path, "a", size=2000)
    coming = asyncio.create_task(receive_file(ours, part, 2000, method=engine))
    await send(peer, data[:sent])
    await eventually(lambda: part.received == sent)
    await passes()
    reset(peer)
    with pytest.raises(TransferError, match=r"[Cc]onnection reset by peer") as broken:
        await coming
    assert broken.value.received == sent
    assert holds(tmp_path, data[:sent])


@pytest.mark.parametrize("sent", [0, 700])
async def test_peer_falls_silent(tmp_path: Path, pair: Pair, engine: TransferMethod, sent: int) -> None:
    ours, peer = pair
    data = sample(1000)
    await send(peer, data[:sent])
    part = await PartFile.open(tmp_path, "a", size=1000)
    with pytest.raises(TransferError, match=r"nothing moved for 0\.1 s") as broken:
        await receive_file(ours, part, 1000, stall_timeout=0.1, method=engine)
    assert broken.value.received == sent
    assert holds(tmp_path, data[:sent])


async def test_slow_peer_does_not_stall(tmp_path: Path, pair: Pair, engine: TransferMethod) -> None:
    ours, peer = pair
    part = await PartFile.open(tmp_path, "a", size=20)
    coming = asyncio.create_task(receive_file(ours, part, 20, stall_timeout=0.4, method=engine))
    with outlasting(0.4):  # longer in all than the silence that would end it
        for _ in range(20):
            await send(peer, b"x")
            await asyncio.sleep(0.03)  # what makes the peer slow
        await coming
    await part.commit("a")


# -- the disk -----------------------------------------------------------------------------------


async def test_disk_error(tmp_path: Path, pair: Pair, engine: TransferMethod) -> None:
    ours, peer = pair
    data = sample(2 * MIB)
    part = await PartFile.open(tmp_path, "a", size=len(data))
    refused = pytest.raises(StorageError, match=r"cannot write .*a\.part: File too large")
    with longest_file(MIB + 1), pumping(peer, data[: MIB + BYTES_PER_TURN]), refused:
        await receive_file(ours, part, len(data), method=engine)
    assert part.received == MIB + 1
    assert holds(tmp_path, data[: MIB + 1])


async def test_part_ended_elsewhere(tmp_path: Path, pair: Pair, engine: TransferMethod) -> None:
    ours, peer = pair
    part = await PartFile.open(tmp_path, "a", size=20)
    coming = asyncio.create_task(receive_file(ours, part, 20, method=engine))
    await send(peer, b"0123456789")
    await eventually(lambda: part.received == 10)
    await part.keep()
    await send(peer, b"0123456789")
    with pytest.raises(StateError, match=r"a\.part is kept"):
        await coming
    assert holds(tmp_path, b"0123456789")


def count_writes_off_loop(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    counted: list[None] = []
    original = TransferBackend.write_in_thread

    def counting(self: TransferBackend, *args: object) -> None:
        counted.append(None)
        original(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(TransferBackend, "write_in_thread", counting)
    return counted


async def test_slow_disk_is_written_in_a_thread(
    tmp_path: Path, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, peer = pair
    monkeypatch.setattr(splice, "_SLOW_WRITE_TIME", -1.0)  # every write is taken for a slow one
    counted = count_writes_off_loop(monkeypatch)
    data = sample(3 * MIB + 1)
    part = await PartFile.open(tmp_path, "a", size=len(data))
    with pumping(peer, data + b"next"):
        await receive_file(ours, part, len(data), method="splice")
    assert (await part.commit("a")).sha256 == sha256(data)
    assert len(counted) >= len(data) // BYTES_PER_TURN - 1
    assert await asyncio.get_running_loop().sock_recv(ours, 10) == b"next"


async def test_recovered_disk_is_written_in_the_loop(
    tmp_path: Path, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, peer = pair
    monkeypatch.setattr(splice, "_SLOW_WRITE_TIME", -1.0)
    monkeypatch.setattr(splice, "_OFF_LOOP_TIME", 60.0)
    counted = count_writes_off_loop(monkeypatch)
    part = await PartFile.open(tmp_path, "a", size=6000)
    coming = asyncio.create_task(receive_file(ours, part, 6000, method="splice"))
    off_loop = []
    for number in range(6):
        if number == 2:
            monkeypatch.setattr(splice, "_OFF_LOOP_TIME", 0.0)  # what it notes now is over at once
        if number == 3:
            monkeypatch.setattr(splice, "_SLOW_WRITE_TIME", 60.0)
        await send(peer, sample(6000)[number * 1000 : (number + 1) * 1000])
        await eventually(lambda: part.received == (number + 1) * 1000)  # noqa: B023 - awaited in this pass
        await passes()
        off_loop.append(len(counted))
    await coming
    await part.commit("a")
    assert off_loop == [0, 1, 2, 2, 2, 2], "slow in the loop, twice off it, and in the loop again"
    assert contents(tmp_path) == {"a": sample(6000)}


async def test_transfers_take_turns_when_a_pass_has_time_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One turn uses up the time of a pass: no pass has two, no transfer has two before another's first."""
    monkeypatch.setattr(splice, "_BUDGET", 1e-9)
    counted = count_writes_off_loop(monkeypatch)
    turns: list[tuple[int, str]] = []  # number of the pass, and the file
    passed = 0

    def move(self: splice.SpliceTransfer) -> bool:
        turns.append((passed, self.part.target.name))
        return original(self)

    async def count_passes() -> None:
        nonlocal passed
        while True:
            await asyncio.sleep(0)
            passed += 1

    original = splice.SpliceTransfer.move
    monkeypatch.setattr(splice.SpliceTransfer, "move", move)
    data, size = sample(12), 12
    with ExitStack() as stack:
        pairs = [stack.enter_context(tcp_pair()) for _ in range(4)]
        parts = [await PartFile.open(tmp_path, name, size=size) for name in "abcd"]
        for _, peer in pairs:
            await send(peer, data[:6])
        counting = asyncio.create_task(count_passes())
        coming = [
            asyncio.create_task(receive_file(ours, part, size, method="splice"))
            for (ours, _), part in zip(pairs, parts, strict=True)
        ]
        await eventually(lambda: all(part.received == 6 for part in parts))
        for _, peer in pairs:
            await send(peer, data[6:])
        await asyncio.gather(*coming)
        counting.cancel()
        for part in parts:
            await part.commit("")
    assert contents(tmp_path) == dict.fromkeys("abcd", data)
    assert len({number for number, _ in turns}) == len(turns), "a second turn in the same pass"
    assert {name for _, name in turns[:4]} == set("abcd"), "a transfer waited longer than its turn"
    assert not counted, "what has to wait is not written off the loop"


async def test_turn_has_several_moves_and_then_it_is_anothers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(splice, "BYTES_PER_TURN", 1000)
    monkeypatch.setattr(splice, "_BUDGET", 60.0)
    moves: list[str] = []

    def move(self: splice.SpliceTransfer) -> bool:
        moves.append(self.part.target.name)
        return original(self)

    original = splice.SpliceTransfer.move
    monkeypatch.setattr(splice.SpliceTransfer, "move", move)
    data = sample(10_000)
    with tcp_pair() as (one, one_peer), tcp_pair() as (other, other_peer):
        for peer in (one_peer, other_peer):
            await send(peer, data)
        parts = [await PartFile.open(tmp_path, name, size=len(data)) for name in ("a", "b")]
        await asyncio.gather(
            *(
                receive_file(ours, part, len(data), method="splice")
                for ours, part in zip((one, other), parts, strict=True)
            )
        )
        for part in parts:
            await part.commit("")
    assert contents(tmp_path) == {"a": data, "b": data}
    runs = [len(list(run)) for _, run in groupby(moves)]
    assert runs == [4, 4, 4, 4, 2, 2]


async def test_cancelled_while_it_waits_for_its_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splice, "_BUDGET", 1e-9)
    data = sample(16 * MIB)
    with tcp_pair() as (one, one_peer), tcp_pair() as (other, other_peer):
        parts = [await PartFile.open(tmp_path, name, size=len(data)) for name in ("a", "b")]
        with pumping(one_peer, data), pumping(other_peer, data):
            coming = [
                asyncio.create_task(receive_file(ours, part, len(data), method="splice"))
                for ours, part in zip((one, other), parts, strict=True)
            ]
            while not all(part.received for part in parts):
                await passes(1)
            coming[0].cancel()
            with pytest.raises(asyncio.CancelledError):
                await coming[0]
            kept = parts[0].received
            await coming[1]
            rest = bytearray()
            while kept + len(rest) < len(data):
                rest += await asyncio.get_running_loop().sock_recv(one, MIB)
        await parts[1].commit("")
    assert parts[0].received == kept, "a cancelled transfer had a further turn"
    assert contents(tmp_path)["a.part"] + rest == data
    assert contents(tmp_path)["b"] == data


async def test_file_without_splice_is_copied(tmp_path: Path, pair: Pair) -> None:
    ours, peer = pair
    data = sample(MIB + 1)
    part = await PartFile.open(tmp_path, "a", size=len(data))
    # Linux refuses to splice into a file opened for appending, as it does on some file systems.
    fcntl.fcntl(part.fd, fcntl.F_SETFL, fcntl.fcntl(part.fd, fcntl.F_GETFL) | os.O_APPEND)
    with pumping(peer, data):
        await receive_file(ours, part, len(data), method="splice")
    assert (await part.commit("a")).sha256 == sha256(data)


# -- cancellation -------------------------------------------------------------------------------


async def test_cancelled_while_bytes_come(tmp_path: Path, pair: Pair, engine: TransferMethod) -> None:
    ours, peer = pair
    data = sample(900)
    part = await PartFile.open(tmp_path, "a", size=1000)
    coming = asyncio.create_task(receive_file(ours, part, 1000, method=engine))
    await send(peer, data)
    await eventually(lambda: part.received == 900)
    coming.cancel()
    with pytest.raises(asyncio.CancelledError):
        await coming
    assert holds(tmp_path, data)
    await send(peer, b"later")
    assert await asyncio.get_running_loop().sock_recv(ours, 10) == b"later", "nobody reads any more"


@pytest.mark.parametrize("slow_disk", [False, True])
@pytest.mark.parametrize("after", [1, BYTES_PER_TURN + 1, 3 * MIB])
async def test_cancelled_midway_loses_no_byte(
    tmp_path: Path,
    pair: Pair,
    engine: TransferMethod,
    after: int,
    slow_disk: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was taken from the socket is in the part to the last byte; the rest is still in the socket."""
    if slow_disk:
        monkeypatch.setattr(splice, "_SLOW_WRITE_TIME", -1.0)
    ours, peer = pair
    data = sample(8 * MIB)
    part = await PartFile.open(tmp_path, "a", size=len(data))
    coming = asyncio.create_task(receive_file(ours, part, len(data), method=engine))
    with pumping(peer, data):
        await eventually(lambda: part.received >= after)
        coming.cancel()
        with pytest.raises(asyncio.CancelledError):
            await coming
        rest = bytearray()
        while part.received + len(rest) < len(data):
            rest += await asyncio.get_running_loop().sock_recv(ours, MIB)
    assert after <= part.received < len(data)
    assert contents(tmp_path)["a.part"] + rest == data


async def test_cancelled_at_every_await(tmp_path: Path, engine: TransferMethod) -> None:
    data = sample(1000)

    async def whole_life(ours: socket, directory: Path) -> None:
        part = await PartFile.open(directory, "a", size=len(data))
        await receive_file(ours, part, len(data), prefix=data[:10], method=engine)
        await part.commit("a")

    ends: list[dict[str, bytes]] = []
    for count in range(1, 100):
        directory = tmp_path / str(count)
        with tcp_pair() as (ours, peer):
            await send(peer, data[10:])
            cancelled = await cancelled_at(whole_life(ours, directory), count)
        ends.append(contents(directory))
        if not cancelled:
            break
    assert ends[0] == {}
    assert ends[-1] == {"a": data}
    for end in ends:
        assert end in ({}, {"a.part": data[:10]}, {"a.part": data}, {"a": data})
    assert {"a.part": data[:10]} in ends
    # Nothing is awaited between the last byte of a splice and the rename of a small file.
    assert engine == "splice" or {"a.part": data} in ends


def test_buffered_drops_bytes_beyond_the_file(tmp_path: Path) -> None:
    """Only Windows does; asked here as its loop asks."""

    async def scenario() -> None:
        part = await PartFile.open(tmp_path, "a", size=3)
        with tcp_pair() as (ours, _):
            mover = BufferedTransfer(ours, part, 3)
            room = mover.get_buffer(-1)
            assert len(room) == 3
            room[:] = b"abc"
            mover.buffer_updated(3)
            assert len(mover.get_buffer(-1)) == 1
            mover.buffer_updated(1)
            await mover.done
        await part.commit("a")

    asyncio.run(scenario())
    assert contents(tmp_path) == {"a": b"abc"}
