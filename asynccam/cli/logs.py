"""Log of the library, written to a file or standard error by ``--log-level`` and ``--log-file``."""

import atexit
import logging
import queue
import sys
import threading
from pathlib import Path
from typing import Final, TextIO

from asynccam.cli.errors import print_error
from asynccam.cli.options import LogLevel
from asynccam.errors import StorageError

_FORMAT: Final = "%(asctime)s.%(msecs)03d %(levelname)-7s %(name)s: %(message)s"
_MAX_QUEUED: Final = 10_000
"""Records that wait to be written; more are dropped and counted."""
_FLUSH_TIMEOUT: Final = 5.0
"""For writing what waits when the program ends."""


def start_logging(level: LogLevel, path: Path | None = None) -> None:
    """Write asynccam's log until the program ends; raise `StorageError` if it cannot be written."""
    try:
        # Closed by the end of the program.
        stream = sys.stderr if path is None else path.open("a", encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise StorageError(f"cannot write the log to {path}: {error.strerror or error}") from error
    writer = _StreamWriter(stream)
    writer.setFormatter(logging.Formatter(_FORMAT, datefmt="%Y-%m-%d %H:%M:%S"))
    handler = _ThreadHandler(writer)
    logger = logging.getLogger("asynccam")
    logger.setLevel(level.upper())
    logger.addHandler(handler)
    atexit.register(handler.finish)


class _StreamWriter(logging.StreamHandler[TextIO]):
    """Handler that reports the first record it cannot write, and only that one."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._failed = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name of logging
        if not self._failed:
            self._failed = True
            print_error(f"the log is not complete: {sys.exc_info()[1]}")


class _ThreadHandler(logging.Handler):
    """Handler that queues records for a thread that writes them."""

    def __init__(self, writer: logging.Handler) -> None:
        super().__init__()
        self._writer = writer
        self._records: queue.Queue[logging.LogRecord | None] = queue.Queue(_MAX_QUEUED)
        self._dropped = 0
        # A daemon, because a write that never returns must not keep the program from ending.
        self._thread = threading.Thread(target=self._write, name="asynccam log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a record, or count it as dropped."""
        try:
            self._records.put_nowait(record)
        except queue.Full:
            self._dropped += 1

    def finish(self) -> None:
        """Write the queued records, for at most five seconds."""
        try:
            self._records.put(None, timeout=_FLUSH_TIMEOUT)
        except queue.Full:
            return
        self._thread.join(_FLUSH_TIMEOUT)
        if self._dropped:
            print_error(f"the log lacks {self._dropped} records: they came faster than they could be written")

    def _write(self) -> None:
        while (record := self._records.get()) is not None:
            self._writer.handle(record)
