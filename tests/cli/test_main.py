"""The command line itself: help, mistakes, and life without the extra."""

import subprocess
import sys

import pytest

from asynccam.cli.app import COMMANDS, invoke
from tests.support.command import asynccam


def test_main_without_the_extra_names_it() -> None:
    program = "import sys; sys.modules['{}'] = None; from asynccam.cli.main import run; run()"
    for missing in ("typer", "rich"):
        ended = subprocess.run(
            [sys.executable, "-c", program.format(missing)], capture_output=True, text=True, check=False
        )
        assert ended.returncode == 9
        assert ended.stderr == 'asynccam: the command needs Typer and Rich: pip install "asynccam[cli]"\n'
        assert ended.stdout == ""


def test_main_other_missing_module_is_not_the_extra() -> None:
    program = (
        "import sys; sys.modules['asynccam.cli.formatting'] = None; from asynccam.cli.main import run; run()"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "ModuleNotFoundError" in ended.stderr


async def test_python_m_runs_the_command() -> None:
    ended = await asynccam("--version")
    assert ended.code == 0
    assert ended.out.startswith("asynccam 0.")


def test_no_command_prints_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke([]) == 0
    said = capsys.readouterr().out
    for command in (*(one for one in COMMANDS), "serve"):
        assert f" {command} " in said


@pytest.mark.parametrize("command", [*(one for one in COMMANDS), "serve multicam"])
def test_commands_have_help_and_json(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke([*command.split(), "--help"]) == 0
    said = capsys.readouterr().out
    assert "--json" in said
    assert "--verbose" in said


MISTAKES = [
    (["nonsense"], "No such command 'nonsense'"),
    (["status"], "Missing argument 'URI'"),
    (["status", "--frobnicate", "multicam://h"], "No such option: --frobnicate"),
    (["discover", "--timeout", "never"], "Invalid value for '--timeout'"),
    (["serve", "multicam", "--port", "70000"], "Invalid value for '--port'"),
    (["record", "multicam://h"], "Missing option '--duration'"),
    (["status", "gopher://h"], "unknown system 'gopher'"),
    (["status", "h:8080"], "is not a camera address"),
]


@pytest.mark.parametrize(("line", "words"), MISTAKES, ids=lambda value: " ".join(value)[:40])
def test_wrong_command_line_exits_2(line: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(line) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("asynccam: ")
    assert words in said.err
    assert said.err.count("\n") == 1


@pytest.mark.parametrize(
    ("line", "modules"),
    [
        ("--version", set()),
        ("discover --help", {"discover"}),
        ("serve", set()),
        ("serve snapshot --help", {"serve"}),
        ("--help", {module.rpartition(".")[2] for module in COMMANDS.values()} - {"command"}),
    ],
)
def test_command_line_imports_only_the_commands_that_it_names(line: str, modules: set[str]) -> None:
    program = (
        "import sys; from asynccam.cli.app import invoke; invoke(sys.argv[1:]);"
        "print(*sys.modules, file=sys.stderr)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, *line.split()], capture_output=True, text=True, check=True
    )
    imported = set(ended.stderr.splitlines()[-1].split())
    package = "asynccam.cli.commands."
    found = {name.removeprefix(package) for name in imported if name.startswith(package)}
    assert found == modules
    if line == "--version":
        assert not {"rich.console", "asyncio", "pydantic", "asynccam.cli.output"} & imported
