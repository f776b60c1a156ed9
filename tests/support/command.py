"""The asynccam command as a process of its own."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

COMMAND: Final = (sys.executable, "-m", "asynccam")
_CLEAN: Final = ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "TERM", "GITHUB_ACTIONS")


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


async def asynccam(*arguments: object, timeout: float = 40.0, env: Mapping[str, str] | None = None) -> Ended:
    """Run the command to its end."""
    async with started(*arguments, env=env) as process, asyncio.timeout(timeout):
        out, err = await process.communicate(b"")
        assert process.returncode is not None
        return Ended(process.returncode, out.decode(), err.decode())


@asynccontextmanager
async def started(
    *arguments: object, env: Mapping[str, str] | None = None, prefix: Sequence[str] = ()
) -> AsyncIterator[asyncio.subprocess.Process]:
    """The command while it runs; killed at the end if it still does.

    Args:
        arguments: Of the command.
        env: More environment variables.
        prefix: A command that becomes this one, ``nsenter`` for example.
    """
    process = await asyncio.create_subprocess_exec(
        *prefix,
        *COMMAND,
        *map(str, arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={name: value for name, value in os.environ.items() if name not in _CLEAN} | dict(env or {}),
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
