"""Editors complete the public names although they are imported lazily: the stub re-exports each of them."""

from pathlib import Path

import jedi
import pytest

PROJECT = jedi.Project(Path(__file__).parents[2])
ENVIRONMENT = jedi.InterpreterEnvironment()  # starts no process


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("from asynccam import Sess", "Session"),
        ("import asynccam; asynccam.Session.add_", "add_address"),
        ("from asynccam.systems.multicam import MultiCamCl", "MultiCamClient"),
        ("from asynccam.take import align_", "align_take"),
    ],
)
def test_jedi_completes_public_names(line: str, expected: str) -> None:
    script = jedi.Script(line, project=PROJECT, environment=ENVIRONMENT)
    assert expected in [completion.name for completion in script.complete()]
