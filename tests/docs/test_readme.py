"""The program on README's first screen runs, with an address in place of the search of the whole network."""

import re
from pathlib import Path
from typing import Any

import pytest

from asynccam.cli.app import COMMANDS
from asynccam.model.systems import SYSTEMS
from tests.support.multicam_device import running

README = (Path(__file__).parents[2] / "README.md").read_text()


async def test_the_shortest_program_records_a_take(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    match = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert match is not None
    program = match[1]
    async with running(tmp_path / "device") as device:
        for shown, here in (
            ("session.discover()", f'session.connect_all(["multicam://127.0.0.1:{device.port}"])'),
            ("duration=5", "duration=0.2, start_in=0.2"),
            ('Path("takes")', f"Path({str(tmp_path / 'takes')!r})"),
            ("\nasyncio.run(main())\n", ""),
        ):
            assert shown in program
            program = program.replace(shown, here)
        names: dict[str, Any] = {}
        exec(compile(program, "README.md", "exec"), names)
        await names["main"]()
    assert capsys.readouterr().out.startswith(f"complete {tmp_path / 'takes'}")


def test_the_first_screen_shows_it_and_the_page_is_short() -> None:
    lines = README.splitlines()
    assert len(lines) <= 150
    places = [README.index(what) for what in ("docs/images/demo.svg", "make demo", "make test", "```python")]
    assert places == sorted(places)
    assert README[: places[-1]].count("\n") < 25


def test_every_system_has_its_row() -> None:
    table = README[README.index("## Systems") : README.index("## What makes it different")]
    for system in SYSTEMS:
        assert re.search(rf"^\| \[{system}\]\(docs/{system}\.md\) \|", table, re.MULTILINE | re.IGNORECASE)


def test_every_command_the_readme_names_is_one() -> None:
    known = {command.__name__ for command in COMMANDS} | {"serve", "simulate"}
    named = re.findall(r"^asynccam (\w+)", README, re.MULTILINE)
    assert set(named) <= known
    assert {"doctor", "top", "record", "resume", "align", "bridge"} <= set(named)


def test_every_option_the_readme_names_is_one() -> None:
    manual = (Path(__file__).parents[2] / "docs/commands.md").read_text()
    for command, options in re.findall(r"^asynccam (\w+)([^#\n]*)", README, re.MULTILINE):
        section = manual[manual.index(f"## `asynccam {command}`") :].split("\n## ")[0]
        for option in re.findall(r"--[a-z-]+", options):
            assert f"`{option}" in section, (command, option)


def test_every_file_the_readme_points_to_is_there() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (Path(__file__).parents[2] / target).exists(), target
