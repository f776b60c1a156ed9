"""A real mosquitto on a free port of the loopback interface."""

import asyncio
import os
import shutil
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

_START_SECONDS = 20.0


class Broker:
    """One broker, which may be stopped and started again on the same port.

    Args:
        directory: For its configuration and what it remembers.
        users: Names and passwords; none for a broker that lets everybody in.
    """

    def __init__(self, directory: Path, users: Mapping[str, str] | None = None) -> None:
        self.host = "127.0.0.1"
        self.port = _free_port()
        self._users = users or {}
        self._directory = directory
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Returns once it accepts connections."""
        await asyncio.to_thread(self._configure)
        self._process = await asyncio.create_subprocess_exec(
            *(_program(), "-c", self._directory / "mosquitto.conf"), stderr=asyncio.subprocess.DEVNULL
        )
        async with asyncio.timeout(_START_SECONDS):
            while True:
                try:
                    _, writer = await asyncio.open_connection(self.host, self.port)
                except OSError:
                    assert self._process.returncode is None, "mosquitto did not start"
                    await asyncio.sleep(0.02)
                    continue
                writer.close()
                await writer.wait_closed()
                return

    async def stop(self) -> None:
        """Gone without a word to its clients."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            await process.wait()

    def _configure(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        lines = [f"listener {self.port} {self.host}", "persistence false", "user root"]
        if self._users:
            passwords = self._directory / "passwords"
            passwords.write_text("".join(f"{name}:{secret}\n" for name, secret in self._users.items()))
            passwords.chmod(0o600)
            # mosquitto_passwd turns the plain words of the file into digests, in place.
            _run(_program("mosquitto_passwd"), "-U", str(passwords))
            lines += ["allow_anonymous false", f"password_file {passwords}"]
        else:
            lines.append("allow_anonymous true")
        (self._directory / "mosquitto.conf").write_text("\n".join(lines) + "\n")


@asynccontextmanager
async def broker(directory: Path, users: Mapping[str, str] | None = None) -> AsyncIterator[Broker]:
    """A running broker."""
    running = Broker(directory, users)
    try:
        await running.start()
        yield running
    finally:
        await running.stop()


def _program(name: str = "mosquitto") -> str:
    path = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
    assert path is not None, f"{name} is missing; .ci/setup broker installs it"
    return path


def _run(*command: str) -> None:
    import subprocess

    subprocess.run(command, check=True, capture_output=True, timeout=10)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port
