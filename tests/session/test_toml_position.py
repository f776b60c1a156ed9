"""The line of a key in a TOML text: against texts whose lines were counted when they were made."""

import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asynccam.session.toml_position import Path, line_of, syntax_error

TEXT = '''\
title = "x"                 # 1
# a comment with [a.table]
"dotted key".inner = 1      # 3
[table]
text = """
[table.fake]
key = 1
"""                         # 5 to 8
list = [
  1,  # ]
  2,
]                           # 9 to 12
[[many]]
name = \'\'\'[[many]]
\'\'\'

[[many]]
other = { a = 1, b = [2] }  # 18

[many.sub]
key = 1                     # 21
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("title",), 1),
        (("dotted key",), 3),
        (("dotted key", "inner"), 3),
        (("table",), 4),
        (("table", "text"), 5),
        (("table", "list"), 9),
        (("table", "list", 1), 9),
        (("table", "missing"), 4),
        (("many",), 13),
        (("many", 0), 13),
        (("many", 0, "name"), 14),
        (("many", 1), 17),
        (("many", 1, "name"), 17),
        (("many", 1, "other", "b", 0), 18),
        (("many", 1, "sub", "key"), 21),
        (("many", 7, "x"), 13),
        (("missing",), 1),
        ((), 1),
    ],
)
def test_lines_of_a_text_written_by_hand(path: Path, line: int) -> None:
    assert line_of(TEXT, path) == _first_statement(TEXT, line)


def _first_statement(text: str, line: int) -> int:
    """Comments and blank lines before a statement are documents of their own, so nothing shifts."""
    assert text.splitlines()[line - 1]
    return line


VALUES = st.sampled_from(
    ["1", '"text"', "[1,\n 2,\n\n 3]", '"""\na = 1\n[x]\n"""', "'''\n'''", "{ a = 1 }", "[\n]", "1979-05-27"]
)
FILLERS = st.lists(st.sampled_from(["", "# comment", "  ", "# [[camera]]"]), max_size=3)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(FILLERS, st.lists(st.tuples(FILLERS, VALUES), max_size=4)), min_size=1, max_size=5))
def test_every_key_of_any_text(tables: list[tuple[list[str], list[tuple[list[str], str]]]]) -> None:
    lines: list[str] = []
    wanted: dict[tuple[str | int, ...], int] = {}
    for number, (before, keys) in enumerate(tables):
        lines += [*before, "[[camera]]"]
        wanted["camera", number] = len(lines)
        for index, (filler, value) in enumerate(keys):
            lines += filler
            wanted["camera", number, f"key{index}"] = len(lines) + 1
            lines += f"key{index} = {value}".split("\n")
    text = "\n".join(lines)
    tomllib.loads(text)
    for path, line in wanted.items():
        assert line_of(text, path) == line


def test_syntax_errors() -> None:
    for text, line in (("a = 1\nb =\n", 2), ("a = 1\n\nb = [\n", 3), ("", 1)):
        try:
            tomllib.loads(text or "=")
        except tomllib.TOMLDecodeError as error:
            found, words = syntax_error(error, text)
            assert found == line
            assert "(at" not in words
