"""Whether bytes are a JPEG picture: servers in the field also hand out raw frames under that name."""

from typing import Final

from asynccam.systems.snapshot.errors import RemoteProtocolError

_START: Final = b"\xff\xd8\xff"
_END: Final = b"\xff\xd9"
_SHOWN: Final = 8


def check_head(head: bytes, source: str) -> None:
    """See that a picture begins as one.

    Args:
        head: Its first bytes.
        source: Names it in the error.

    Raises:
        RemoteProtocolError: It does not.
    """
    if head.startswith(_START):
        return
    if not head:
        raise RemoteProtocolError(f"{source} is empty", status_code=200, response_text="")
    if head.lstrip()[:1] == b"<":
        raise RemoteProtocolError(
            f"{source} is a page, no picture", status_code=200, response_text=head.decode(errors="replace")
        )
    if head.lstrip()[:1] == b"{":
        words = head.decode(errors="replace")
        raise RemoteProtocolError(
            f"{source} is an answer, no picture: {words}", status_code=200, response_text=words
        )
    raise RemoteProtocolError(
        f"{source} is no JPEG, it begins with {head[:_SHOWN].hex(' ')}: a raw frame perhaps, which servers "
        "hand out under that name for a camera whose pixel format is not MJPG",
        status_code=200,
    )


def ends_whole(tail: bytes) -> bool:
    """Whether a picture can end with these bytes; cameras may fill up its last block with zeros."""
    return tail.rstrip(b"\0").endswith(_END)
