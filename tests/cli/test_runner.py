"""Ctrl-C, SIGTERM and errors, in processes of their own."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

PROGRAM = """
import asyncio, sys, time
import typer
from asynccam.cli.output import Output
from asynccam.cli.runner import execute
from asynccam.errors import ConnectionError

async def main():
    print("up", flush=True)
    try:
        await asyncio.sleep(30)
    finally:
        print("tidying", flush=True)
        {tidying}
        print("tidy", flush=True)

async def failing():
    raise ConnectionError("nobody\\nis there")

try:
    execute("test", {main}, Output())
except typer.Exit as end:
    sys.exit(end.exit_code)
"""


@contextmanager
def running(*, tidying: str = "pass", main: str = "main") -> Iterator["subprocess.Popen[str]"]:
    program = PROGRAM.format(tidying=tidying, main=main)
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def said(process: "subprocess.Popen[str]", line: str) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == f"{line}\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_first_signal_cancels_the_command(number: signal.Signals, code: int) -> None:
    with running() as process:
        said(process, "up")
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
    assert out == "tidying\ntidy\n"
    assert err == ""
    assert process.returncode == code


@pytest.mark.parametrize("tidying", ["await asyncio.sleep(30)", "time.sleep(30)"], ids=["waits", "blocks"])
def test_second_signal_exits_at_once(tidying: str) -> None:
    with running(tidying=tidying) as process:
        said(process, "up")
        process.send_signal(signal.SIGINT)
        said(process, "tidying")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)
    assert (out, err) == ("", "")
    assert process.returncode == 130


def test_execute_error_is_one_line_and_a_code() -> None:
    with running(main="failing") as process:
        out, err = process.communicate(timeout=20)
    assert (out, err) == ("", "asynccam: test: nobody is there\n")
    assert process.returncode == 3


def test_error_during_cancellation_is_reported() -> None:
    with running(tidying="raise ConnectionError('it hangs')") as process:
        said(process, "up")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert err == "asynccam: test: it hangs\n"
    assert process.returncode == 130
