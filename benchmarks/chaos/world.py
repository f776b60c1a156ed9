"""File systems and a network of a round's own, where the kernel allows that."""

import os
import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Final

_UNSHARE: Final = (
    "unshare",
    "--user",
    "--map-root-user",
    "--mount",
    "--net",
    "--pid",
    "--fork",
    "--mount-proc",
)
_ENDING: Final = ("--kill-child",)
_SIZE: Final = 48 << 20
_BALLAST: Final = "ballast"
_NETWORK: Final = "ip link set lo up && ip link set lo multicast on && ip route add 224.0.0.0/4 dev lo"


@cache
def namespaces() -> bool:
    """Return whether a process may have file systems, processes and a network of its own here."""
    probe = f"{_NETWORK} && mount -t tmpfs none /mnt"
    try:
        done = subprocess.run([*_UNSHARE, *_ENDING, "sh", "-c", probe], capture_output=True, check=False)
    except OSError:
        return False
    return done.returncode == 0


def within(command: list[str]) -> list[str]:
    """A command, in namespaces of its own if that is possible."""
    if not namespaces():
        return command
    return [*_UNSHARE, *_ENDING, "sh", "-c", f'{_NETWORK} && exec "$@"', "sh", *command]


def unplugged() -> Callable[[], None]:
    """Take the network away; returns what brings it back. Only in a namespace of one's own."""
    _ip("down")

    def back() -> None:
        subprocess.run(["sh", "-c", _NETWORK], check=False, capture_output=True)

    return back


def _ip(state: str) -> None:
    subprocess.run(["ip", "link", "set", "lo", state], check=True, capture_output=True)


class Disk:
    """A small disk that can be filled.

    Args:
        path: Where it is.
        mounts: Whether it is a file system of its own; else it is a directory, and is never full.
        size: Bytes that it holds.
    """

    def __init__(self, path: Path, *, mounts: bool, size: int = _SIZE) -> None:
        self._path = path
        self._size = size
        self._mounts = mounts
        self._mounted = False

    def mount(self) -> None:
        """Make it."""
        self._path.mkdir(parents=True, exist_ok=True)
        if self._mounts:
            options = ["-t", "tmpfs", "-o", f"size={self._size}", "none", str(self._path)]
            subprocess.run(["mount", *options], check=True)
            self._mounted = True

    def fill(self) -> None:
        """Leave not a byte."""
        if not self._mounted:
            return
        ballast = os.open(self._path / _BALLAST, os.O_CREAT | os.O_WRONLY)
        try:
            for size in (1 << 20, 4096):
                try:
                    while True:
                        os.write(ballast, bytes(size))
                except OSError:
                    continue
        finally:
            os.close(ballast)

    def free(self) -> None:
        """Give all of it back."""
        (self._path / _BALLAST).unlink(missing_ok=True)

    def keep(self) -> None:
        """Copy what is on it to where it outlives this process."""
        if self._mounted:
            shutil.copytree(self._path, self._path.with_name("takes-kept"), dirs_exist_ok=True)

    def unmount(self) -> None:
        """Let go of it."""
        if self._mounted:
            subprocess.run(["umount", "--lazy", str(self._path)], check=False)
            self._mounted = False
