"""How long ``import`` takes: asynccam, and the libraries it stands beside or upon.

Run as ``python -m benchmarks.imports``. Every import is one of a fresh interpreter, whose own start is
taken off; files are in the page cache.
"""

import subprocess
import sys
import time
from functools import partial
from statistics import median
from typing import Final

from benchmarks._report import Row, arguments, emit, interleave

_CASES: Final = {
    "bare interpreter": "pass",
    "import asynccam": "import asynccam",
    "asynccam.Session": "from asynccam import Session",
    "asynccam.MultiCamClient": "from asynccam import MultiCamClient",
    "import websockets, first connect": "import websockets; websockets.connect",
    "import zeroconf": "import zeroconf",
    "import pydantic, first model": "from pydantic import BaseModel",
    "import aiohttp": "import aiohttp",
}


_COMMAND: Final = ("-m", "asynccam", "--version")


def _seconds(*program: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, *program], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> None:
    """Measure and print."""
    options = arguments("What an import costs").parse_args()
    cases = {case: partial(_seconds, "-c", program) for case, program in _CASES.items()}
    cases["asynccam --version"] = partial(_seconds, *_COMMAND)
    results = interleave(cases, 2 if options.quick else 15)
    seconds = {case: median(values) for case, values in results.items()}
    command = Row("imports", "asynccam --version, whole", seconds["asynccam --version"] * 1000, "ms")
    start = seconds.pop("bare interpreter")
    whole = seconds["import aiohttp"] - start
    rows = [
        Row("imports", case, (one - start) * 1000, "ms", "import aiohttp", (one - start) / whole)
        for case, one in seconds.items()
    ]
    emit([*rows, command], as_json=options.json)


if __name__ == "__main__":
    main()
