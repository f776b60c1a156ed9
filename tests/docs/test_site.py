"""The site: every page is in the navigation, the reference is complete, and code on the pages is valid."""

import ast
import importlib
import inspect
import re
import textwrap
from pathlib import Path
from types import ModuleType

import pytest

from tests.project.test_public_names import exported, packages

DOCS = Path(__file__).parents[2] / "docs"
REFERENCE = [DOCS / "reference.md", *sorted((DOCS / "reference").glob("*.md"))]


def shown() -> set[str]:
    """Return the Python paths that the reference shows."""
    return {
        path for page in REFERENCE for path in re.findall(r"^::: ([\w.]+)$", page.read_text(), re.MULTILINE)
    }


def resolved(path: str) -> object:
    """Return the module or the attribute at a path."""
    head, _, name = path.rpartition(".")
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError:
        return getattr(importlib.import_module(head), name)


@pytest.mark.parametrize("package", packages())
def test_reference_has_every_public_name(package: str) -> None:
    paths = shown()
    things = [resolved(path) for path in paths]
    modules = {one.__name__ for one in things if isinstance(one, ModuleType)}
    missing = []
    for name in sorted(exported(importlib.import_module(package))):
        value = getattr(importlib.import_module(package), name)
        known = f"{package}.{name}" in paths or any(value is one for one in things)
        if inspect.isclass(value) or inspect.isroutine(value):
            known = known or value.__module__ in modules
        elif not known:
            known = any(getattr(importlib.import_module(one), name, None) is value for one in modules)
        if not known:
            missing.append(name)
    assert missing == []


def test_every_page_is_in_the_navigation() -> None:
    navigation = (DOCS.parent / "mkdocs.yml").read_text().partition("\nnav:")[2]
    named = set(re.findall(r": ([\w/-]+\.md)$", navigation, re.MULTILINE))
    assert named == {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")}


PAGES = [DOCS.parent / "README.md", *sorted(DOCS.rglob("*.md"))]


def blocks(page: Path, *languages: str) -> list[str]:
    """Return the code blocks of a page, without the indentation of lists."""
    fence = rf"^ *```(?:{'|'.join(languages)})\n(.*?)^ *```"
    found = re.findall(fence, page.read_text(), re.MULTILINE | re.DOTALL)
    return [textwrap.dedent(block) for block in found]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_compiles_and_its_imports_exist(page: Path) -> None:
    for block in blocks(page, "python", "py"):
        tree = compile(block, page.name, "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("asynccam"):
                for one in node.names:
                    assert resolved(f"{node.module}.{one.name}") is not None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_their_options_exist(page: Path) -> None:
    manual = (DOCS / "commands.md").read_text()
    known = re.findall(r"^##+ `(asynccam [a-z ]+)`$", manual, re.MULTILINE)
    for block in blocks(page, "sh", "text", "ini"):
        for line in block.replace("\\\n", " ").splitlines():
            match = re.match(r"(?:[A-Z_]+=\S+ |ExecStart=\S*/)*(asynccam [a-z].*?)(?: +#.*)?$", line)
            if match is None or page.name == "commands.md":
                continue
            name = max((one for one in known if f"{match[1]} ".startswith(f"{one} ")), key=len, default="")
            assert name, f"{page.name}: {line}"
            section = manual[manual.index(f"# `{name}`\n") :].split("\n## ")[0].split("\n### ")[0]
            for option in re.findall(r"(?<=\s)--[a-z-]+", match[1]):
                assert re.search(rf"`[^`]*{option}\b", section), f"{page.name}: {line}: {option}"


LOGGERS = {"asynccam.credentials", "asynccam.net.websocket.frames"}
"""Loggers that are not named like a module."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_names_and_files_on_every_page_exist(page: Path) -> None:
    text = page.read_text()
    for path in re.findall(r"`((?:tests|benchmarks)/[\w/]+\.py)`", text):
        assert (DOCS.parent / path).exists(), path
    for name in set(re.findall(r"`(asynccam(?:\.\w+)+)", text)) - LOGGERS:
        assert exists(name), name


def exists(name: str) -> bool:
    """Return whether a dotted name is a module, or an attribute below one, however deep."""
    head, _, last = name.rpartition(".")
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        return bool(head) and exists(head) and (last in _names_in(head))
    return True


def _names_in(name: str) -> set[str]:
    head, _, last = name.rpartition(".")
    try:
        value: object = importlib.import_module(name)
    except ModuleNotFoundError:
        value = getattr(resolved(head), last)
    return {*dir(value), *getattr(value, "__dataclass_fields__", {}), *getattr(value, "model_fields", {})}


def test_names_that_do_not_exist_are_found() -> None:
    assert exists("asynccam.Session.take")
    assert exists("asynccam.net.reconnecting.TRANSITIONS")
    assert not exists("asynccam.Session.nothing")
    assert not exists("asynccam.nothing")


def test_quoted_reasons_and_errors_are_those_of_the_code() -> None:
    recording = (DOCS / "recording.md").read_text()
    table = recording[recording.index("| what happened | what is reported |") :].partition("\n\n")[0]
    reasons = re.findall(r"^\|[^|]+\| `([^`]+)` \|$", table, re.MULTILINE)
    assert len(reasons) == 3
    source = "".join(path.read_text() for path in (DOCS.parent / "asynccam/recording").glob("*.py"))
    assert [reason for reason in reasons if f'"{reason}"' not in source] == []
    ((_, problem),) = re.findall(
        r"line \d+, column \d+: (\S+): (.+)", (DOCS / "snapshot-server.md").read_text()
    )
    assert f'"{problem}"' in (DOCS.parent / "asynccam/systems/snapshot/server/settings.py").read_text()


PRIVATE_WORDS = (
    r"nobody|whoever|somebody|(?:bring|brings|brought|come|comes|came|is|are) home|(?:is|are) told|tells? of|"
    r"looks? into|looked into|is no [a-z]|winds? up|wound up|in the field|makers?'s?"
)
"""Words that a reader has to decipher; the style is plain subject, verb, object."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_prose_uses_plain_words(page: Path) -> None:
    prose = re.sub(r"^ *```.*?^ *```$|`[^`\n]*`", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    assert re.findall(rf"\b(?:{PRIVATE_WORDS})\b", prose, re.IGNORECASE) == []
