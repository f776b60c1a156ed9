"""A real mosquitto on the loopback interface, which can go away and come back at the same port."""

import asyncio
import json
import os
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import aiomqtt

HOST: Final = "127.0.0.1"
_SBIN: Final = "/usr/sbin:/usr/local/sbin"
_START_SECONDS: Final = 20.0
_TRIES: Final = 20


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody uses at this moment."""
    with socket.socket() as one:
        one.bind((HOST, 0))
        port: int = one.getsockname()[1]
        return port


class Broker:
    """A mosquitto process.

    Args:
        directory: For its settings and passwords.
        users: Names and passwords; none lets everybody in.

    Attributes:
        host: Where it listens.
        port: Where it listens, the same from start to start.
    """

    host = HOST

    def __init__(self, directory: Path, users: dict[str, str] | None = None) -> None:
        self._directory = directory
        self._users = users or {}
        self._process: asyncio.subprocess.Process | None = None
        self.port = 0

    async def start(self) -> None:
        """Start it, and wait until it lets clients in."""
        assert self._process is None, "it runs already"
        # A free port may be somebody else's before mosquitto has it; one that was used stays.
        for _ in range(_TRIES):
            port = self.port or free_port()
            if await self._started(port):
                self.port = port
                return
        raise AssertionError(f"mosquitto does not start at {HOST}:{self.port}")

    async def stop(self) -> None:
        """End it, clients and all."""
        process, self._process = self._process, None
        if process is not None:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.kill()
            await process.wait()

    async def restart(self) -> None:
        """End it and start it at the same port."""
        await self.stop()
        await self.start()

    async def publish(self, topic: str, payload: Any, *, retain: bool = False) -> None:
        """Publish one message: bytes and text as they are, everything else as JSON."""
        if not isinstance(payload, bytes | str):
            payload = json.dumps(payload)
        name, password = next(iter(self._users.items()), (None, None))
        async with aiomqtt.Client(HOST, self.port, username=name, password=password, timeout=20) as client:
            await client.publish(topic, payload, qos=1, retain=retain)

    async def _started(self, port: int) -> bool:
        program = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:{_SBIN}")
        assert program, "mosquitto is not installed"
        self._process = await asyncio.create_subprocess_exec(
            program,
            "-c",
            self._settings(port),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            async with asyncio.timeout(_START_SECONDS):
                while self._process.returncode is None:
                    if await self._lets_in(port) and self._process.returncode is None:
                        return True
                    await asyncio.sleep(0.01)
        except BaseException:
            await self.stop()
            raise
        await self.stop()
        return False

    async def _lets_in(self, port: int) -> bool:
        """Return whether it answers the packet that opens a connection, whatever it answers."""
        try:
            reader, writer = await asyncio.open_connection(HOST, port)
        except OSError:
            return False
        try:
            writer.write(b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x3c\x00\x02up")
            return await reader.read(1) == b"\x20"
        except OSError:
            return False
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    def _settings(self, port: int) -> str:
        self._directory.mkdir(parents=True, exist_ok=True)
        lines = [f"listener {port} {HOST}", "persistence false", "max_keepalive 60"]
        if self._users:
            passwords = self._directory / "passwords"
            passwords.write_text("".join(f"{name}:{word}\n" for name, word in self._users.items()))
            lines += ["allow_anonymous false", f"password_file {passwords}"]
            self._hash(passwords)
        else:
            lines.append("allow_anonymous true")
        if os.geteuid() == 0:
            lines.append("user root")  # it would become a user who cannot read the test's directory
        path = self._directory / "mosquitto.conf"
        path.write_text("\n".join(lines) + "\n")
        return str(path)

    def _hash(self, passwords: Path) -> None:
        program = shutil.which("mosquitto_passwd", path=f"{os.environ.get('PATH', '')}:{_SBIN}")
        assert program, "mosquitto_passwd is not installed"
        subprocess.run([program, "-U", str(passwords)], check=True, capture_output=True)


@asynccontextmanager
async def broker(directory: Path, users: dict[str, str] | None = None) -> AsyncIterator[Broker]:
    """A broker that runs, and is gone at the end."""
    one = Broker(directory, users)
    await one.start()
    try:
        yield one
    finally:
        await one.stop()
