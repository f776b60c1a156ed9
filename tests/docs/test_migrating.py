"""The table of vendors' and new names: every new name exists, and every vendor's example is covered."""

import re
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "migrating.md").read_text()
NEW = sorted(set(re.findall(r"`(asynccam\.[\w.]+)`", PAGE)))


def found(name: str) -> bool:
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            thing: object = import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            if not hasattr(thing, part):
                return False
            thing = getattr(thing, part)
        return True
    return False


@pytest.mark.parametrize("name", NEW)
def test_new_name_exists(name: str) -> None:
    assert found(name)


def test_missing_name_is_found() -> None:
    assert not found("asynccam.Session.nothing")
    assert not found("asynccam.systems.multicam.Nothing")


@pytest.mark.parametrize("page", sorted((ROOT / "tests" / "seeds").glob("*.md")), ids=lambda path: path.stem)
def test_imports_of_examples_are_in_the_table(page: Path) -> None:
    imported = re.findall(r"^from (\w+) import (\([^)]*\)|[^\n]+)", page.read_text(), re.MULTILINE)
    standard = {"dataclasses", "typing"}
    names = {
        name
        for package, words in imported
        if package not in standard
        for name in re.findall(r"\w+", re.sub(r"#.*", "", words))
    }
    assert [name for name in sorted(names) if not re.search(rf"`[^`]*\b{name}\b[^`]*`", PAGE)] == []
