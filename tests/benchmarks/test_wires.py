"""The five wires broken at a sample of the bytes of typical exchanges, the same sample each time."""

import asyncio
import builtins
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from asynccam.errors import RemoteProtocolError
from benchmarks._wires_network import DROPS, FAULTS, HOST, Fault, Wire
from benchmarks._wires_systems import TARGETS, Target, World, stand_ins
from benchmarks.wires import Tally, chosen, learn, run_case, run_target

PROJECT = Path(__file__).parents[2]
CASES = 30


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name.replace(" ", "-"))
async def test_exchanges_with_faults_have_no_finding(target: Target, tmp_path: Path) -> None:
    async with stand_ins():
        faults = chosen(await learn(target, tmp_path), target, CASES, seed=1)
        tally = await run_target(target, faults, tmp_path)
    assert not tally.findings, "\n".join(f"{one}\n{one.trace}" for one in tally.findings)
    assert tally.cases == len(faults) >= CASES
    assert {one.kind for one in faults} == {*FAULTS, DROPS}


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name.replace(" ", "-"))
async def test_exchanges_without_faults_succeed(target: Target, tmp_path: Path) -> None:
    tally = Tally()
    async with stand_ins(), target.make(made(tmp_path / "world")) as world:
        await run_case(target, world, Fault("cut", "up", 1 << 40), tmp_path / "files", tally)
    assert (dict(tally.outcomes), tally.findings) == ({"result": 1}, [])


def made(directory: Path) -> Path:
    directory.mkdir()
    return directory


class Echo:
    """A server that gives back what it gets, and a client of it, with a network between them."""

    def __init__(self, wire: Wire, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.wire = wire
        self.reader = reader
        self.writer = writer


@asynccontextmanager
async def echo(fault: Fault | None) -> AsyncIterator[Echo]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(100):
                writer.write(data)
        writer.close()

    async with (
        await asyncio.start_server(serve, HOST, 0) as server,
        Wire(server.sockets[0].getsockname()[1]) as wire,
    ):
        wire.arm(fault)
        reader, writer = await asyncio.open_connection(HOST, wire.port)
        try:
            yield Echo(wire, reader, writer)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


@pytest.mark.parametrize("kind", ["cut", "half"])
async def test_network_ends_a_connection_at_a_byte(kind: str) -> None:
    async with echo(Fault(kind, "down", 3)) as one:
        one.writer.write(b"abcdef")
        assert await asyncio.wait_for(one.reader.read(), 30) == b"abc"
        assert one.wire.seen["up"] == b"abcdef"


async def test_network_resets_a_connection_at_a_byte() -> None:
    async with echo(Fault("reset", "up", 3)) as one:
        one.writer.write(b"abcdef")
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(one.reader.read(), 30)
        assert bytes(one.wire.seen["down"]) in (b"", b"abc")


async def test_network_is_silent_after_a_byte() -> None:
    async with echo(Fault("stall", "up", 3)) as one:
        one.writer.write(b"abcdef")
        assert await asyncio.wait_for(one.reader.readexactly(3), 30) == b"abc"
        one.writer.write_eof()
        assert not one.wire.quiet.is_set()
        await one.wire.clear()
        assert await asyncio.wait_for(one.reader.read(), 30) == b""
        assert one.wire.quiet.is_set()


@pytest.mark.parametrize(("kind", "byte"), [("flip", b"e"), ("zero", b"\0"), ("ones", b"\xff")])
async def test_network_changes_a_byte(kind: str, byte: bytes) -> None:
    async with echo(Fault(kind, "down", 3)) as one:
        one.writer.write(b"abcdef")
        assert await asyncio.wait_for(one.reader.readexactly(6), 30) == b"abc" + byte + b"ef"


@pytest.mark.parametrize("fault", [None, Fault(DROPS, "up"), Fault(DROPS, "down")])
async def test_network_without_fault_loses_nothing(fault: Fault | None) -> None:
    async with echo(fault) as one:
        one.writer.write(bytes(range(256)))
        one.writer.write_eof()
        assert await asyncio.wait_for(one.reader.read(), 30) == bytes(range(256))


class Wrong:
    """An exchange that ends as it is told to."""

    def __init__(self, error: Exception | None, *, served: bool = True, file: bytes = b"") -> None:
        self.error = error
        self.served = served
        self.file = file

    async def talk(self, files: Path) -> None:
        if self.file:
            (files / "a.mp4").write_bytes(self.file)
        if self.error is not None:
            raise self.error

    async def good(self) -> None:
        if not self.served:
            raise RemoteProtocolError("nonsense")


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        (Wrong(None), ""),
        (Wrong(RemoteProtocolError("own")), ""),
        (Wrong(KeyError("foreign")), "KeyError (foreign): 'foreign'"),
        (Wrong(builtins.TimeoutError()), "TimeoutError (foreign)"),
        (Wrong(None, served=False), "the next client is not served: RemoteProtocolError: nonsense"),
        (Wrong(None, file=b"half"), "a.mp4 has 4 bytes and is not the file"),
        (Wrong(None, file=b"whole"), ""),
    ],
)
async def test_findings(wrong: Wrong, what: str, tmp_path: Path) -> None:
    tally = Tally()
    target = replace(TARGETS[0], patience=None)
    async with echo(None) as one:
        world = World(one.wire, wrong.talk, wrong.good, frozenset({b"whole"}))
        await run_case(target, world, Fault("cut"), tmp_path / "files", tally)
    assert [finding.what for finding in tally.findings] == ([what] if what else [])


async def test_endless_exchange_is_a_finding(tmp_path: Path) -> None:
    async def talk(_: Path) -> None:
        await asyncio.Event().wait()

    tally = Tally()
    target = replace(TARGETS[0], deadline=0.01)
    async with echo(None) as one:
        world = World(one.wire, talk, Wrong(None).good)
        await run_case(target, world, Fault("cut"), tmp_path / "files", tally)
    assert [finding.what for finding in tally.findings] == ["hangs"]


def test_quick_run() -> None:
    command = [sys.executable, "-m", "benchmarks.wires", "--quick", "--json", "--target", "multicam status"]
    run = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=50, check=True)
    rows = {row["case"]: row["value"] for row in map(json.loads, run.stdout.splitlines())}
    assert rows["multicam status"] == rows["all"] == 12
    assert rows["findings"] == 0
