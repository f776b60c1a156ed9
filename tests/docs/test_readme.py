"""README: its program runs, and the commands, options and files that it names exist."""

import re
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from asynccam.cli.app import COMMANDS
from asynccam.model.systems import SYSTEMS
from tests.support.multicam_device import running

README = (Path(__file__).parents[2] / "README.md").read_text()
SHELL = "".join(re.findall(r"```sh\n(.*?)```", README, re.DOTALL))


async def test_program_records_a_take(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    match = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert match is not None
    program = match[1]
    async with running(tmp_path / "device") as device:
        for shown, here in (
            (
                '"multicam://192.168.1.20:8080", "nanocam://192.168.1.30:7200"',
                f'"multicam://127.0.0.1:{device.port}"',
            ),
            ("duration=5", "duration=0.2, start_in=0.2"),
            ('"takes"', repr(str(tmp_path / "takes"))),
            ("\nasyncio.run(main())\n", ""),
        ):
            assert shown in program
            program = program.replace(shown, here)
        names: dict[str, Any] = {}
        exec(compile(program, "README.md", "exec"), names)
        await names["main"]()
    assert capsys.readouterr().out.startswith(f"complete {tmp_path / 'takes'}")


def test_first_screen_shows_picture_demo_command_and_program_in_this_order() -> None:
    lines = README.splitlines()
    assert len(lines) <= 150
    shown = ("docs/images/contact-sheet.png", "make demo", "asynccam record", "```python")
    places = [README.index(text) for text in shown]
    assert places == sorted(places)
    assert README[: places[-1]].count("\n") < 50


def test_every_system_has_its_row() -> None:
    table = README[: README.index("## Try it")]
    for system in SYSTEMS:
        assert re.search(rf"^\| \[{system}\]\(docs/{system}\.md\) \|", table, re.MULTILINE | re.IGNORECASE)


def test_only_systems_with_discovery_are_said_to_be_found() -> None:
    for name in SYSTEMS:
        (row,) = re.findall(rf"^\| \[{name}\].*$", README, re.MULTILINE | re.IGNORECASE)
        assert row.split("|")[3].strip() == (
            "yes" if hasattr(import_module(f"asynccam.systems.{name}"), "discover") else "no"
        )


def test_install_line_has_the_extras_that_make_demo_installs() -> None:
    root = Path(__file__).parents[2]
    (extras,) = re.findall(r'^pip install "\.\[([\w,]+)\]"$', README, re.MULTILINE)
    assert f"run) setup_venv {extras} ;;" in (root / ".ci/setup").read_text()
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    assert set(extras.split(",")) <= project["optional-dependencies"].keys()


def test_every_named_command_exists() -> None:
    known = set(COMMANDS) | {"serve", "simulate"}
    named = re.findall(r"^asynccam (\w+)", SHELL, re.MULTILINE)
    assert set(named) <= known
    assert {"doctor", "top", "record", "resume", "align", "bridge"} <= set(named)


def test_every_named_option_exists() -> None:
    manual = (Path(__file__).parents[2] / "docs/commands.md").read_text()
    for command, options in re.findall(r"^asynccam (\w+)([^#\n]*)", SHELL, re.MULTILINE):
        section = manual[manual.index(f"## `asynccam {command}`") :].split("\n## ")[0]
        for option in re.findall(r"--[a-z-]+", options):
            assert f"`{option}" in section, (command, option)


def test_every_linked_file_exists() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (Path(__file__).parents[2] / target).exists(), target
