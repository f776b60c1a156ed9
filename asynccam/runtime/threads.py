"""The system's refusal to start another thread, in asynccam's own words."""

from collections.abc import Iterator
from contextlib import contextmanager

from asynccam.errors import BusyError


@contextmanager
def thread_errors() -> Iterator[None]:
    """Turn the ``RuntimeError`` of a thread that cannot be started into `BusyError`.

    Raises:
        BusyError: This computer, or this user, has as many threads as it may.
    """
    try:
        yield
    except RuntimeError as error:
        if "start new thread" not in str(error):  # the words of CPython, which has no class for it
            raise
        raise BusyError(
            "this computer starts no further thread; end other programs, or raise the limit of processes"
        ) from error
