"""The makers' own examples as programs, nothing changed but the import, ``await`` and the address."""

import asyncio
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
SECONDS = 50.0

_CHILD = """
import ast, asyncio, inspect, sys
source = open(sys.argv[1], encoding="utf-8").read()
code = compile(source, sys.argv[1], "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
result = eval(code, {"__name__": "__main__"})
if inspect.iscoroutine(result):
    asyncio.run(result)
"""


def blocks(maker: str) -> dict[str, str]:
    """Every Python block of a maker's document, by the heading it stands under."""
    text = (HERE / f"{maker}.md").read_text(encoding="utf-8")
    return dict(re.findall(r"^### (.*?)\n\n```python\n(.*?)```", text, re.DOTALL | re.MULTILINE))


@dataclass(frozen=True)
class Changes:
    """All that may be changed.

    Attributes:
        imports: What is imported from, by what stands there instead.
        awaited: Patterns of what is called without ``await`` there.
        places: Addresses, names of files and credentials, by what stands there instead.
    """

    imports: Mapping[str, str]
    awaited: Sequence[str] = ()
    places: Mapping[str, str] | None = None

    def to(self, source: str) -> str:
        for there, here in self.imports.items():
            source = re.sub(
                rf"^(from|import) {re.escape(there)}\b", rf"\1 {here}", source, flags=re.MULTILINE
            )
        for pattern in self.awaited:
            changed = re.sub(rf"(?<![\w.])({pattern}\()", r"await \1", source)
            assert changed != source, f"nothing to await: {pattern}"
            source = changed
        for there, here in (self.places or {}).items():
            assert there in source, there
            source = source.replace(there, here)
        return source


@dataclass(frozen=True)
class Ran:
    """How a program ended."""

    code: int
    out: str
    err: str


async def run(source: str, directory: Path, *, seconds: float = SECONDS) -> Ran:
    """Run a program, which may await at its top level, in a directory of its own."""
    program = directory / "example.py"
    await asyncio.to_thread(program.write_text, source, encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _CHILD, str(program)),
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(HERE.parents[1])},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(seconds):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
    assert process.returncode is not None
    return Ran(process.returncode, out.decode(), err.decode())
