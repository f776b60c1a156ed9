"""The library's log, to a file or to standard error, for ``asynccam --log-level LEVEL --log-file FILE``."""

import atexit
import logging
import logging.handlers
import queue
from enum import StrEnum
from pathlib import Path
from typing import Final

from asynccam.errors import StorageError

_FORMAT: Final = "%(asctime)s.%(msecs)03d %(levelname)-7s %(name)s: %(message)s"


class LogLevel(StrEnum):
    """How much is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def start_logging(level: LogLevel, path: Path | None = None) -> None:
    """Write asynccam's log until the program ends.

    A file is appended to by a thread, because writing to a slow disk must not hold up the event loop.

    Args:
        level: The least severe level that is written.
        path: The file, or None for standard error.

    Raises:
        StorageError: The file cannot be written.
    """
    logger = logging.getLogger("asynccam")
    logger.setLevel(level.upper())
    formatter = logging.Formatter(_FORMAT, datefmt="%Y-%m-%d %H:%M:%S")
    if path is None:
        stream = logging.StreamHandler()
        stream.setFormatter(formatter)
        logger.addHandler(stream)
        return
    try:
        file = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise StorageError(f"cannot write the log to {path}: {error.strerror or error}") from error
    file.setFormatter(formatter)
    records: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    logger.addHandler(logging.handlers.QueueHandler(records))
    listener = logging.handlers.QueueListener(records, file)
    listener.start()

    def finish() -> None:
        listener.stop()
        file.close()

    atexit.register(finish)
