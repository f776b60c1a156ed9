"""Commands that end by themselves do not poll: some devices serve one connection at a time."""

from pathlib import Path
from typing import Any

import pytest

import asynccam.session
from asynccam.cli.app import invoke
from asynccam.cli.errors import ExitCode
from asynccam.errors import BusyError

ADDRESS = "multicam://127.0.0.1:1"


@pytest.mark.parametrize(
    "arguments",
    [
        ("cameras", ADDRESS),
        ("snapshot", ADDRESS),
        ("discover",),
        ("files", ADDRESS),
        ("download", ADDRESS, "clip.mp4"),
        ("record", ADDRESS, "--duration", "1"),
        ("resume", "."),
        ("status", ADDRESS),
    ],
    ids=lambda arguments: str(arguments[0]),
)
def test_command_does_not_poll(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = {}

    def refuse(**given: Any) -> None:
        settings.update(given)
        raise BusyError("no session in this test")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(asynccam.session, "Session", refuse)
    assert invoke([*arguments]) == ExitCode.UNREACHABLE
    assert settings["poll_interval"] is None
