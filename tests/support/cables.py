"""A network of one's own: this process at one end of a cable, devices at the other.

Needs Linux with user namespaces, ``unshare``, ``nsenter`` and ``ip``: call `is_allowed` first, and run the
program by `INSIDE`.
"""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

INSIDE: Final = ("unshare", "-rnm")
"""What runs a program as root of network and mount namespaces of its own."""
HERE: Final = "10.77.0.1"
NAME: Final = "cam.test"
_ADDRESSES: Final = ("10.77.0.2", "10.77.0.3")


def is_allowed() -> bool:
    """Return whether the kernel lets this user make such a network."""
    words = "ip link add x type veth && ip link add y type bridge && mount --bind /etc/hostname /etc/hosts"
    try:
        return subprocess.run([*INSIDE, "sh", "-c", words], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


class Cable:
    """A switch with two cables: to this process (``near``) and to the host of the devices (``far``).

    Args:
        holder: The process whose network namespace is the devices' host.
        hosts: The file that stands in for ``/etc/hosts``.

    Attributes:
        prefix: A command that becomes another one, on the devices' host.
        address: The devices' address now.
    """

    def __init__(self, holder: int, hosts: Path) -> None:
        self.prefix = ("nsenter", f"--net=/proc/{holder}/ns/net")
        self.address = _ADDRESSES[0]
        self._hosts = hosts
        self._holder = holder

    async def lay(self) -> None:
        """Lay the cables."""
        self._name()
        await _run("mount", "--bind", str(self._hosts), "/etc/hosts")
        await _ip("link", "set", "lo", "up")
        await self._there("link", "set", "lo", "up")
        await _ip("link", "add", "switch", "type", "bridge")
        for end, plug in (("near", "port1"), ("far", "port2")):
            await _ip("link", "add", end, "type", "veth", "peer", "name", plug)
            await _ip("link", "set", plug, "master", "switch", "up")
        await _ip("link", "set", "switch", "up")
        await _ip("link", "set", "far", "netns", str(self._holder))
        await _ip("addr", "add", f"{HERE}/24", "dev", "near")
        await _ip("link", "set", "near", "up")
        await self._there("addr", "add", f"{self.address}/24", "dev", "far")
        await self._there("link", "set", "far", "up")

    async def unplug(self) -> None:
        """Pull this computer's cable, which it notices."""
        await _ip("link", "set", "port1", "down")

    async def plug_in(self) -> None:
        """Put it back."""
        await _ip("link", "set", "port1", "up")

    async def cut(self) -> None:
        """Cut the devices' cable behind the switch: packets vanish without a word."""
        await _ip("link", "set", "port2", "nomaster")

    async def mend(self) -> None:
        """Join it again."""
        await _ip("link", "set", "port2", "master", "switch")

    async def move(self) -> None:
        """Give the devices' host its other address, and the name to it."""
        old, self.address = self.address, next(one for one in _ADDRESSES if one != self.address)
        # First the old one: with a primary address go all secondary ones.
        await self._there("addr", "del", f"{old}/24", "dev", "far")
        await self._there("addr", "add", f"{self.address}/24", "dev", "far")
        self._name()

    def _name(self) -> None:
        # In place: the file is mounted over /etc/hosts.
        self._hosts.write_text(f"127.0.0.1 localhost\n{self.address} {NAME}\n")

    async def _there(self, *words: str) -> None:
        await _run(*self.prefix, "ip", *words)


@asynccontextmanager
async def cable(directory: Path) -> AsyncIterator[Cable]:
    """A cable that is laid; the process must run by `INSIDE`."""
    holder = await asyncio.create_subprocess_exec(
        "unshare", "-n", "cat", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    try:
        holder.stdin.write(b"ready\n")
        await holder.stdout.readline()  # it is in its namespace
        one = Cable(holder.pid, directory / "hosts")
        await one.lay()
        yield one
    finally:
        holder.stdin.close()
        await holder.wait()


async def _ip(*words: str) -> None:
    await _run("ip", *words)


async def _run(*words: str) -> None:
    process = await asyncio.create_subprocess_exec(*words, stderr=asyncio.subprocess.PIPE)
    _, told = await process.communicate()
    if process.returncode:
        raise OSError(f"{' '.join(words)}: {told.decode().strip()}")
