"""The manual names every command and every option there is, and nothing else; and completion works."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from asynccam.cli.app import app
from tests.support.command import asynccam

ROOT = Path(__file__).parents[2]
HELP = {"--help", "-h"}  # which Typer adds, or does not name


def of_code(command: Any = None, name: str = "asynccam") -> Iterator[tuple[str, set[str], list[str]]]:
    """Every command by its whole name, with its options and the words for its arguments."""
    command = command or typer.main.get_command(app)
    if command.hidden:
        return
    shown = [one for one in command.params if not getattr(one, "hidden", False)]
    options = {option for one in shown for option in (*one.opts, *one.secondary_opts) if option[0] == "-"}
    arguments = [one.metavar for one in shown if one.param_type_name == "argument"]
    yield name, options - HELP, arguments
    for inner, below in getattr(command, "commands", {}).items():
        yield from of_code(below, f"{name} {inner}")


def of_page(page: str) -> dict[str, tuple[set[str], str]]:
    """Every command in a manual, with its options and its usage."""
    found = {}
    parts = re.split(r"^##+ `(asynccam[\w -]*)`$", page, flags=re.MULTILINE)
    for name, text in zip(parts[1::2], parts[2::2], strict=True):
        spans = re.findall(r"^\* `(-[^`]+)`", text, re.MULTILINE)
        options = {option for span in spans for option in re.findall(r"(?<![\w-])--?[a-z][a-z-]*", span)}
        usage = re.search(r"^\$ (.*)$", text, re.MULTILINE)
        assert usage is not None, name
        assert name not in found
        found[name] = (options - HELP, usage[1])
    return found


def check(page: str) -> None:
    manual = of_page(page)
    code = {name: (options, arguments) for name, options, arguments in of_code()}
    assert manual.keys() == code.keys()
    for name, (options, arguments) in code.items():
        assert manual[name][0] == options, name
        assert manual[name][1].startswith(name)
        for argument in arguments:
            assert re.search(rf"\b{argument}\b", manual[name][1]), (name, argument)


def test_manual_finds_commands_in_the_code() -> None:
    code = {name: options for name, options, _ in of_code()}
    assert {"--version", "--install-completion"} <= code["asynccam"]
    assert "--no-commands" in code["asynccam bridge"]
    assert {"-v", "--verbose", "--cut"} <= code["asynccam align"]
    assert "asynccam serve multicam" in code
    assert "--save-picture" not in code["asynccam demo"]


def test_manual_page_is_current() -> None:
    check((ROOT / "docs/commands.md").read_text())


def test_manual_differences_are_found() -> None:
    page = (ROOT / "docs/commands.md").read_text()
    for wrong in (
        page.replace("* `--no-commands", "* `--never-commands").replace("/ --no-commands", ""),
        page.replace("* `--cut ", "* `--slice "),
        page.replace("## `asynccam align`", "## `asynccam aline`"),
        page + "\n## `asynccam fly`\n\n```console\n$ asynccam fly\n```\n",
    ):
        assert wrong != page
        with pytest.raises(AssertionError):
            check(wrong)


def test_guide_names_commands_and_existing_options() -> None:
    guide = (ROOT / "docs/cli.md").read_text()
    code = {name: options | HELP for name, options, _ in of_code()}
    table = guide[guide.index("## Commands") : guide.index("### discover")]
    named = re.findall(r"^\| `(asynccam(?: [a-z]+)+)", table, re.MULTILINE)
    assert sorted(named) == sorted(set(code) - {"asynccam", "asynccam serve", "asynccam simulate"})
    # What stands in backticks may go on in the next ones.
    for usage in re.findall(r"^`asynccam [^\n]*`(?:\n`[^\n]*`)*$", guide, re.MULTILINE):
        for line in usage.split(" · "):
            name = max((one for one in code if line.lstrip("`").startswith(one)), key=len)
            assert set(re.findall(r"(?<![\w-])--[a-z-]+", line)) <= code[name], line


def test_manual_can_be_regenerated(tmp_path: Path) -> None:
    target = tmp_path / "commands.md"
    subprocess.run([sys.executable, ROOT / ".ci/manual.py", target], check=True, timeout=60)
    page = target.read_text()
    check(page)
    assert "&#" not in page
    assert "..." not in "".join(re.findall(r"^\* \[`.*$", page, re.MULTILINE))
    for anchor in re.findall(r"\]\(#([\w-]+)\)", page):
        assert re.search(rf"^##+ `{anchor.replace('-', '[ -]')}`$", page, re.MULTILINE), anchor


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
async def test_completion_script_exists(shell: str) -> None:
    ended = await asynccam(env={"_ASYNCCAM_COMPLETE": f"source_{shell}"})
    assert ended.code == 0
    assert "asynccam" in ended.out
    assert "_ASYNCCAM_COMPLETE" in ended.out


async def test_completion_of_commands() -> None:
    words = {"COMP_WORDS": "asynccam re", "COMP_CWORD": "1"}
    ended = await asynccam(env={"_ASYNCCAM_COMPLETE": "complete_bash"} | words)
    assert set(ended.out.split()) == {"record", "resume"}


async def test_completion_of_options() -> None:
    words = {"COMP_WORDS": "asynccam align --s", "COMP_CWORD": "2"}
    ended = await asynccam(env={"_ASYNCCAM_COMPLETE": "complete_bash"} | words)
    assert ended.out.split() == ["--sheet"]


async def test_completion_is_installed(tmp_path: Path) -> None:
    # Which shell it is, is otherwise seen from the processes above, which are none here.
    env = {"HOME": str(tmp_path), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    ended = await asynccam("--install-completion", "bash", env=env)
    assert ended.code == 0, ended.err
    assert "asynccam" in (tmp_path / ".bashrc").read_text()
    scripts = [file for file in tmp_path.rglob("*") if file.is_file() and file.name != ".bashrc"]
    assert any("_ASYNCCAM_COMPLETE" in file.read_text() for file in scripts)
