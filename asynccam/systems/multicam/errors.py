"""Conversion of a device's refusal to asynccam's errors."""

import re
from collections.abc import Iterable
from typing import Final

from asynccam.errors import ClockNotSynchronizedError, DeviceError, NotFoundError
from asynccam.systems.multicam.models import DeviceStatus, Reply

# OAK replies "error" with this message for a file it does not have.
_NOT_FINALIZED: Final = "failed to finalize video"
# Where presigned URLs carry their signature; a device may quote one that it shortened.
_URL_QUERY: Final = re.compile(r"(://[^\s?#]*)[?#]\S*")


def refusal(peer: str, command: str, reply: Reply, *, secrets: Iterable[str] = ()) -> DeviceError:
    """Return the exception for a reply whose status is an error, without the command's ``secrets``."""
    message = str(getattr(reply, "message", None) or "")  # Android's replies have none
    kind: type[DeviceError] = DeviceError
    if reply.status == DeviceStatus.TIME_NOT_SYNCHRONIZED:
        kind = ClockNotSynchronizedError
    elif reply.status == DeviceStatus.FILE_NOT_FOUND or _NOT_FINALIZED in message.lower():
        kind = NotFoundError
    for secret in secrets:
        message = message.replace(secret, "***")
    message = _URL_QUERY.sub(r"\1?***", message)
    text = f"{reply.status}: {message}" if message else reply.status
    return kind(f"{peer} refused {command}: {text}", status=reply.raw_status)
