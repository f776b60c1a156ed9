"""What a device's refusal means in asynccam's own errors."""

import re
from collections.abc import Iterable
from typing import Final

from asynccam.errors import ClockNotSynchronizedError, DeviceError, NotFoundError
from asynccam.systems.multicam.models import DeviceStatus, Reply

# OAK says "error" for a file it does not have, and this.
_NOT_FINALIZED: Final = "failed to finalize video"
# Where presigned URLs carry their signature; a device may quote one that it shortened.
_URL_QUERY: Final = re.compile(r"(://[^\s?#]*)[?#]\S*")


def refusal(peer: str, command: str, answer: Reply, *, secrets: Iterable[str] = ()) -> DeviceError:
    """The error for an answer whose status is one.

    Args:
        peer: The device's address.
        command: What it refused.
        answer: Its answer; Android's have no message.
        secrets: Texts that were in the command and must not come back in the error.
    """
    message = str(getattr(answer, "message", None) or "")
    kind: type[DeviceError] = DeviceError
    if answer.status == DeviceStatus.TIME_NOT_SYNCHRONIZED:
        kind = ClockNotSynchronizedError
    elif answer.status == DeviceStatus.FILE_NOT_FOUND or _NOT_FINALIZED in message.lower():
        kind = NotFoundError
    for secret in secrets:
        message = message.replace(secret, "***")
    message = _URL_QUERY.sub(r"\1?***", message)
    words = f"{answer.status}: {message}" if message else answer.status
    return kind(f"{peer} refused {command}: {words}", status=answer.raw_status)
