"""What the corpus has made and asked before, kept between runs.

The directory may be removed at any time. Files get their place by a hard link: of two workers that make
one at the same time the first wins, and both read that one.
"""

import hashlib
import json
import re
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final

from tests.support.media_corpus.recipes import OUT, RECIPES, Recipe

DIRECTORY: Final = Path(__file__).parents[3] / ".pytest_cache" / "d" / "media-corpus"
"""Where files and answers are kept; ``make clean`` removes it."""
_DEADLINE: Final = 50.0
"""Seconds that one program may take; the longest, an encoder, takes about one."""


@cache
def versions() -> str:
    """The versions of the programs, which every key depends on."""
    lines = []
    for command in (("ffmpeg", "-version"), ("gst-launch-1.0", "--version")):
        run = subprocess.run(command, capture_output=True, text=True, timeout=_DEADLINE, check=True)
        lines.append(run.stdout.splitlines()[0])
    return "\n".join(lines)


def keep(name: str, make: Callable[[Path], None]) -> Path:
    """Return the kept file of a name, made first if there is none.

    Args:
        name: File name; it has to change with everything the content depends on.
        make: Write the content to the path it is called with.
    """
    place = DIRECTORY / name
    if place.exists():
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=DIRECTORY, prefix="making-") as work:
        made = Path(work) / "made"
        make(made)
        with suppress(FileExistsError):
            place.hardlink_to(made)
    return place


def keep_json(name: str, ask: Callable[[], object]) -> object:
    """Return the kept answer of a name, asked for first if there is none."""

    def make(made: Path) -> None:
        made.write_text(json.dumps(ask()))

    answer: object = json.loads(keep(name, make).read_text())
    return answer


@cache
def base_file(name: str) -> Path:
    """The file of a recipe.

    Raises:
        subprocess.CalledProcessError: A program failed; the error holds what it printed.
    """
    recipe = RECIPES[name]
    return keep(f"{_key(recipe)}-{name}", lambda made: _make(recipe, made))


@cache
def base_bytes(name: str) -> bytes:
    """The content of a recipe's file."""
    return base_file(name).read_bytes()


def _inputs(recipe: Recipe) -> list[str]:
    found = (re.fullmatch(r"\{(.+)\}", word) for word in recipe.command if word != OUT)
    return [match[1] for match in found if match]


def _key(recipe: Recipe) -> str:
    parts = [versions(), *recipe.command, *(_key(RECIPES[name]) for name in _inputs(recipe))]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _make(recipe: Recipe, made: Path) -> None:
    # The muxer is chosen by the ending of the name.
    target = made.with_name(recipe.name)
    files = {f"{{{name}}}": str(base_file(name)) for name in _inputs(recipe)}
    command = [files.get(word, word).replace(OUT, str(target)) for word in recipe.command]
    subprocess.run(command, capture_output=True, text=True, timeout=_DEADLINE, check=True)
    target.rename(made)
