"""The package keeps its architecture, and the checks of it can fail."""

import ast
from collections import Counter
from pathlib import Path

import pytest

import asynccam
from tests.support.architecture import LAYERS, breaches

HOUSE = Path(asynccam.__path__[0])


def test_package_follows_the_rules() -> None:
    assert breaches(HOUSE) == []


SHORT: dict[str, str] = {
    "__main__.py": "python -m asynccam",
    "cli/commands/discover.py": "one command",
    "cli/main.py": "works where Typer and Rich are not installed",
    "cli/take_runner.py": "a take with its live view, for two commands",
    "model/credentials.py": "what every system and the session import",
    "net/tls.py": "TLS contexts, built in a thread",
    "recording/rtp/rtcp.py": "a protocol without I/O",
    "systems/mediamtx/adapter.py": "an adapter",
    "systems/multicam/adapter.py": "an adapter",
    "systems/nanocam/adapter.py": "an adapter",
    "systems/nanocam/mediaclient.py": "a module name of the vendor",
    "systems/nanocam/mediaserver.py": "a module name of the vendor",
    "systems/nanocam/streams.py": "a module name of the vendor",
    "systems/nanocam/tools.py": "a module name of the vendor",
    "systems/registry.py": "the adapters that are loaded",
    "systems/snapshot/adapter.py": "an adapter",
    "systems/thorvision/adapter.py": "an adapter",
    "systems/thorvision/events.py": "events of the system",
}
"""Files under 60 lines, and why each is a file of its own."""
VENDOR_NAMES = {
    "AuthenticationError",
    "BusyError",
    "Camera",
    "CameraInfo",
    "ConnectionError",
    "DamagedFileError",
    "DeviceError",
    "NotFoundError",
    "PermissionDeniedError",
    "RemoteProtocolError",
    "TimeoutError",
}
"""Names that a vendor's package gives to a class and asynccam to another one."""
PUBLIC_TWICE = {"Limits"}
"""Public names of two packages: of a recorder, and of the Snapshot server."""


def test_short_files_have_a_reason() -> None:
    short = {
        path.relative_to(HOUSE).as_posix()
        for path in HOUSE.rglob("*.py")
        if path.name != "__init__.py" and len(path.read_text().splitlines()) < 60
    }
    assert short == SHORT.keys()


def test_class_names_are_used_once() -> None:
    names = Counter(
        node.name
        for path in HOUSE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    )
    assert {name for name, count in names.items() if count > 1} == VENDOR_NAMES | PUBLIC_TWICE


def test_every_subpackage_has_a_layer() -> None:
    rooms = {path.relative_to(HOUSE).with_suffix("").parts[0] for path in HOUSE.rglob("*.py")}
    assert rooms <= set(LAYERS)
    assert {"errors", "model", "runtime", "net", "systems", "take"} <= rooms


OWN_NAMES = """
class A:
    def f(self, other):
        self._x = other._x
        super()._y
        p._replace(a=1)

def f():
    '''A long docstring does not count.
    %s
    '''
    A()._x
    os._exit(1)
""" % ("\n" * 70)
LONG = "def f():\n" + "    x = 1\n" * 61
GOOD = {
    "__init__.py": '"""A."""\nfrom asynccam.errors import Error\n__all__ = ["Error"]\n__version__ = "1"\n',
    "errors.py": "class Error(Exception): ...\n",
    "model/info.py": "import time\nfrom asynccam.errors import Error\n",
    "net/framing.py": "import struct\nfrom asynccam.errors import Error\n",
    "runtime/tasks.py": "import asyncio\nasyncio.ensure_future(asyncio.gather())\n",
    "net/tcp.py": "import asyncio, logging\nfrom . import udp\nscope.gather(logging.getLogger(__name__))",
    "net/stamp.py": "time.strftime('%H', time.localtime(at))",
    "wall_clock.py": "time.time()",
    "net/child.py": "import signal\nprocess.send_signal(signal.SIGINT)",
    "net/own.py": OWN_NAMES,
    "net/udp.py": "try:\n    pass\nexcept Exception:\n    raise\n",
    "systems/one/protocol.py": (
        "from asynccam.systems.one import models\nfrom asynccam.net.framing import x\n"
    ),
    "systems/one/models.py": "from ...model.info import time\n",
    "cli/main.py": "from asynccam import Error\nprint(1)\nasyncio.run(x)\nsignal.signal(1, 2)\n",
    "__main__.py": "from asynccam.cli.main import x\n",
}


def build(directory: Path, files: dict[str, str]) -> Path:
    house = directory / "asynccam"
    for name, source in files.items():
        path = house / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    return house


def test_good_package_has_no_breach(tmp_path: Path) -> None:
    assert breaches(build(tmp_path, GOOD)) == []


@pytest.mark.parametrize(
    ("file", "source", "words"),
    [
        ("net/bad.py", "from asynccam.systems.one import models", "net (layer 4) imports systems.one.models"),
        ("net/bad.py", "from asynccam.recording.recorder import R", "imports recording.recorder (layer 4)"),
        ("recording/bad.py", "import asynccam.net.tcp", "recording (layer 4) imports net.tcp"),
        ("take/bad.py", "from ..net import tcp", "take (layer 4) imports net.tcp"),
        (
            "model/bad.py",
            "from asynccam.runtime import tasks",
            "model (layer 2) imports runtime.tasks (layer 3)",
        ),
        (
            "errors.py",
            "def f():\n    from asynccam.model.info import x",
            "errors (layer 1) imports model.info",
        ),
        ("net/bad.py", "if x:\n    from asynccam import Error", "imports __init__"),
        ("net/bad.py", "import asynccam", "imports __init__"),
        ("__init__.py", "from asynccam.cli.main import run", "imports cli.main"),
        ("systems/two/bad.py", "from asynccam.systems.one.models import x", "two imports systems.one.models"),
        ("systems/two/bad.py", "from ..one import models", "two imports systems.one.models"),
        ("attic/bad.py", "", "attic is in no layer"),
        ("net/bad.py", "import asynccam.attic", "imports attic, which is in no layer"),
        ("net/framing.py", "import asyncio", "imports asyncio"),
        ("net/jsonrpc_codec.py", "from time import monotonic", "imports time"),
        ("systems/deep/two/protocol.py", "def f():\n    import socket", "imports socket"),
        ("systems/one/protocol.py", "import ssl", "imports ssl"),
        ("systems/one/protocol.py", "import asyncio.streams", "imports asyncio.streams"),
        ("systems/one/models.py", "import asyncio", "imports asyncio by way of systems.one.models"),
        ("net/bad.py", "asyncio.create_task(x)", "create_task"),
        ("net/bad.py", "loop.create_task(x)", "create_task"),
        ("net/bad.py", "from asyncio import ensure_future as f", "ensure_future"),
        ("net/bad.py", "asyncio.gather(a, b)", "asyncio.gather"),
        ("net/bad.py", "from asyncio import gather", "gather"),
        ("net/bad.py", "async with asyncio.TaskGroup() as g: ...", "TaskGroup"),
        ("cli/bad.py", "asyncio.create_task(x)", "create_task"),
        ("net/bad.py", "print('x')", "print()"),
        ("net/bad.py", "sys.stderr.write('x')", "sys.stderr"),
        ("net/bad.py", "from sys import stdout", "sys.stdout"),
        ("net/bad.py", "logging.basicConfig()", "basicConfig"),
        ("net/bad.py", "_LOG.setLevel(10)", "setLevel"),
        ("net/bad.py", "import logging.config", "logging.config"),
        ("net/bad.py", "signal.signal(2, f)", "signal.signal"),
        ("net/bad.py", "loop.add_signal_handler(2, f)", "add_signal_handler"),
        ("net/bad.py", "asyncio.run(f())", "asyncio.run"),
        ("net/bad.py", "try:\n    f()\nexcept:\n    raise", "bare except"),
        ("net/bad.py", "time.time()", "net/bad.py:1: time.time: only wall_clock.py reads the time of day"),
        ("net/bad.py", "field(default_factory=time.time)", "time.time"),
        ("net/bad.py", "from time import time_ns", "time.time_ns"),
        ("net/bad.py", "datetime.now(UTC)", "datetime.now"),
        ("net/bad.py", "datetime.datetime.now(UTC)", "datetime.now"),
        ("net/bad.py", "time.clock_gettime(time.CLOCK_REALTIME)", "time.CLOCK_REALTIME"),
        ("cli/bad.py", "time.strftime('%H')", "time.strftime"),
        ("cli/bad.py", "time.localtime()", "time.localtime"),
        ("net/bad.py", LONG, "bad.py:1: f has 61 lines, more than 60"),
        ("net/bad.py", "def f():\n    x._y", "bad.py:2: x._y: a private name of another class"),
        ("net/bad.py", "class A:\n    def f(self):\n        self.x._y = 1", "self.x._y: a private name"),
        (
            "net/bad.py",
            "class A:\n    _y = 1\nclass B:\n    def f(self, a):\n        a._y",
            "a._y: a private",
        ),
        ("net/udp.py", "from asynccam.net import tcp", "an import circle: net.tcp -> net.udp -> net.tcp"),
        (
            "systems/one/models.py",
            "if TYPE_CHECKING:\n    from asynccam.systems.one.protocol import x",
            "an import circle: systems.one.models -> systems.one.protocol -> systems.one.models",
        ),
        ("net/__init__.py", "x = 1", "logic"),
        ("net/__init__.py", "__getattr__ = attach_stub(__name__, __file__)", "logic"),
        ("net/__init__.py", "def f(): ...", "logic"),
        ("net/__init__.py", "__version__ = f()", "logic"),
        ("net/__init__.py", "if x:\n    import y", "logic"),
        ("net/__init__.py", "__all__ = [name for name in x]", "logic"),
        ("net/__init__.py", "import x\n'no docstring'", "logic"),
    ],
)
def test_breach_is_found_and_named(tmp_path: Path, file: str, source: str, words: str) -> None:
    if source.startswith("async with"):
        source = f"async def f():\n    {source}"
    found = breaches(build(tmp_path, GOOD | {file: source}))
    assert any(words in one for one in found), found


def test_breach_names_file_and_line(tmp_path: Path) -> None:
    found = breaches(build(tmp_path, GOOD | {"net/bad.py": "x = 1\n\nprint(x)\n"}))
    assert found == ["asynccam/net/bad.py:3: print(): only the command talks to the terminal"]
