#!/usr/bin/env python
"""Write docs/commands.md, the options of every command, from the code: ``python .ci/manual.py [FILE]``.

Typer writes the page (``typer asynccam.cli.app utils docs``); this script makes it easier to read.
"""

import html
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TOP = """\
# Command options

Every command with every option. `make docs` writes this page from the code.
[Command line](cli.md) explains the commands, the JSON and the [exit codes](cli.md#exit-codes).

"""
WORDS = {"<str>": "TEXT", "<int>": "N", "<int range>": "N", "<float>": "X", "<float range>": "X"}
RANGES = {r"\b([\d.]+)<=x<=([\d.]+)": r"\1 to \2", r"\bx>=([\d.]+)": r"at least \1"}
ADDRESS = re.compile(r"SYSTEM://HOST\[:PORT\]\\?\[/CAMERA\]")


def generated() -> str:
    """Return the page as Typer writes it."""
    command = [sys.executable, "-m", "typer", "asynccam.cli.app", "utils", "docs", "--name", "asynccam"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
    return subprocess.run(
        command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True
    ).stdout


def readable(page: str) -> str:
    """Return the page with plain signs, and with a link from each command in a list to its section."""
    page = re.sub(r"&#x27;|&#39;|&quot;|&gt;|&lt;=", lambda sign: html.unescape(sign[0]), page)
    summaries = dict(re.findall(r"^#+ `asynccam ([\w ]+)`\n\n(.+)$", page, re.MULTILINE))
    lines = []
    section = ""
    for line in page.splitlines():
        if heading := re.match(r"#+ `asynccam ?([\w ]*)`", line):
            section = heading[1]
        if item := re.match(r"\* `(\w[\w-]*)`: ", line):
            name = f"{section} {item[1]}".strip()
            if name in summaries:
                anchor = f"asynccam {name}".replace(" ", "-")
                line = f"* [`{item[1]}`](#{anchor}): {summaries[name]}"
        elif item := re.match(r"\* `[^`]*`", line):
            line = _plain_words(item[0]) + line[item.end() :]
        lines.append(line)
    body = "\n".join(lines).replace("\n\n\n", "\n\n")
    for sign, words in RANGES.items():
        body = re.sub(sign, words, body)
    body = re.sub(r"\{(\w+)\}", r"\1", body)
    body = ADDRESS.sub("`SYSTEM://HOST[:PORT][/CAMERA]`", body)
    return TOP + body.replace("# `asynccam`", "## `asynccam`", 1).strip() + "\n"


def _plain_words(span: str) -> str:
    """Return an entry without an argument's type, which repeats its name, and with words for an option's."""
    if not span.startswith("* `-"):
        return re.sub(r" <[^`]*>`$", "`", span)
    for sign, word in WORDS.items():
        span = span.replace(sign, word)
    return span


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "commands.md"
    target.write_text(readable(generated()), encoding="utf-8")
