"""docs/tutorial.md from its first command to its last, for real; only ports and durations are others."""

import asyncio
import json
import re
import shlex
import signal
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from asynccam.model.manifest import Manifest, Outcome
from tests.support.broker import broker as running_broker
from tests.support.command import Ended, asynccam, started
from tests.support.devices import free_port
from tests.support.waiting import eventually

PAGE = (Path(__file__).parents[2] / "docs/tutorial.md").read_text()
LINES: list[str] = [
    line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()
]
SERVERS = [line for line in LINES if re.match(r"asynccam (serve|simulate) ", line)]
COMMANDS = [line for line in LINES if line not in SERVERS]
(FLEET,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
PORTS = ("8080", "8002", "8003", "8000", "8088", "7200", "1883")
ENOUGH = 120.0
"""Seconds for anything: a busy machine takes its time."""


class Stage:
    """One run of the tutorial in a directory of its own, at ports that are free.

    Args:
        directory: Where it happens.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ports = {port: free_port() for port in PORTS}
        self.env = {"MEDIAMTX_HTTP_PORT": str(self.ports["8003"])}
        self.done: list[str] = []

    def here(self, text: str) -> str:
        """A text of the page with this stage's ports."""
        return re.sub(rf"\b({'|'.join(PORTS)})\b", lambda match: str(self.ports[match[0]]), text)

    def words(self, line: str, **others: str) -> list[str]:
        """A command's words, with this stage's directory, ports and other values for some options."""
        _, *words = shlex.split(self.here(line).removesuffix("&"))
        for option, value in others.items():
            words[words.index(f"--{option}") + 1] = value
        beneath = ("takes", "hill", "fleet.toml")
        for place, word in enumerate(words):
            if words[place - 1] == "--device-id":
                words[place] = f"{word}-{uuid4().hex[:12]}"  # other tests announce devices as well
            elif word.split("/")[0] in beneath:
                words[place] = str(self.directory / word)
        return words

    def next(self, beginning: str) -> str:
        """The page's next command, which has to begin like this."""
        line = COMMANDS[len(self.done)]
        assert line.startswith(beginning), line
        self.done.append(line)
        return line

    async def run(self, beginning: str, *more: str, **others: str) -> Ended:
        """Carry out the page's next command."""
        words = self.words(self.next(beginning), **others)
        return await asynccam(*words, *more, env=self.env, timeout=ENOUGH)

    @asynccontextmanager
    async def started(self, line: str, *more: str) -> AsyncIterator[Process]:
        async with started(*self.words(line), *more, env=self.env) as process:
            try:
                yield process
            finally:
                if process.returncode is None:
                    process.send_signal(signal.SIGTERM)
                    await asyncio.wait_for(process.communicate(), ENOUGH)


async def said(process: Process) -> Any:
    """The next line of JSON that a command says."""
    assert process.stdout is not None
    return json.loads(await asyncio.wait_for(process.stdout.readline(), ENOUGH))


async def program(number: int, *arguments: object) -> None:
    names: dict[str, Any] = {"__name__": "page"}
    exec(compile(PROGRAMS[number], "docs/tutorial.md", "exec"), names)
    await asyncio.wait_for(names["main"](*arguments), ENOUGH)


def assert_whole(manifest: Manifest, outcome: Outcome, *, early: Sequence[str] = ()) -> None:
    told = {camera.system: (camera.outcome, camera.errors) for camera in manifest.cameras}
    systems = ("multicam", "mediamtx", "thorvision", "snapshot", "nanocam")
    assert told == {
        system: (Outcome.INCOMPLETE if system in early else Outcome.COMPLETE, []) for system in systems
    }
    assert [one.system for one in manifest.cameras if one.ended_early is not None] == list(early)
    assert manifest.outcome is outcome


@pytest.mark.timeout(600)
@pytest.mark.realtime
async def test_tutorial_commands_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stage, takes = Stage(tmp_path), tmp_path / "takes"
    fleet = tmp_path / "fleet.toml"
    fleet.write_text(stage.here(FLEET))

    assert (await stage.run("asynccam doctor", "--interface", "127.0.0.1", "--json")).code in (0, 9)
    async with AsyncExitStack() as stack:
        systems = [await stack.enter_async_context(stage.started(line, "--json")) for line in SERVERS]
        for process in systems:
            assert (await said(process))["event"] == "listening"
        name, _, value = stage.next("export ").removeprefix("export ").partition("=")
        stage.env[name] = value
        for variable, text in stage.env.items():
            monkeypatch.setenv(variable, text)

        seen = (await stage.run("asynccam top", "--json")).json()["cameras"]
        assert len({camera["system"] for camera in seen}) == len(seen) == 5
        assert "away" not in {camera["state"] for camera in seen}

        async with stage.started(stage.next("asynccam watch")) as process:
            # A camera that is slow to answer may be told of as away before the others are found.
            async with asyncio.timeout(30):
                while (await said(process))["event"] != "CameraFound":
                    pass

        assert (await stage.run("asynccam record", duration="2")).code == 0
        assert_whole(await Manifest.load(takes / "first"), Outcome.COMPLETE)
        await program(0, fleet, takes, 1.0)
        assert_whole(await Manifest.load(takes / "mine"), Outcome.COMPLETE)
        capsys.readouterr()
        await program(1, takes / "first")
        told = capsys.readouterr().out
        assert told.startswith("first complete\n")
        assert told.count(" bytes\n") == told.count("first frame ") == 5
        for source in ("seen", "device", "length"):
            assert f": {source}\n" in told

        ended = await stage.run("asynccam align", at="0.1")
        assert ended.code == 0, ended.err
        assert (takes / "first/sheet.png").stat().st_size > 1000

        async with stage.started(stage.next("asynccam record")) as process:
            await eventually(lambda: phase_of(takes / "second") == "recording", ENOUGH)
            process.kill()
            await process.wait()
        ended = await stage.run("asynccam resume", "--json")
        # The recorders of this computer ended with the program, long before the minute was over.
        assert (ended.code, ended.err) == (8, "")
        resumed = await Manifest.load(takes / "second")
        assert_whole(resumed, Outcome.INCOMPLETE, early=("thorvision", "nanocam"))

        async with running_broker(tmp_path) as broker:
            stage.ports["1883"] = broker.port
            async with stage.started(stage.next("asynccam bridge"), "--json", "--to", str(takes)) as process:
                assert (await said(process))["event"] == "connected"
    assert stage.done == COMMANDS
    assert len(SERVERS) == 5


def phase_of(take: Path) -> str:
    try:
        return str(json.loads((take / "manifest.json").read_text())["phase"])
    except (FileNotFoundError, ValueError):
        return ""
