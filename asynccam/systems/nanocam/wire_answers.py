"""What a nanocam server answers, without I/O. See docs/protocols/nanocam.md.

A client reads answers with `asynccam.systems.nanocam.reply_parser.ReplyReader`.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from asynccam.errors import UsageError
from asynccam.model.filenames import safe_name
from asynccam.net.framing import encode_frame
from asynccam.systems.nanocam.safe_pickle import write_names

BUSY: Final = b"BUSY"
OK: Final = b"OK"
DONE: Final = b"DONE"
MORE: Final = b"MORE"
QUIT: Final = b"QUIT"

RefusalKind = Literal["request", "token", "busy", "capture", "killed"]
"""A wrong request, a wrong token, another client has the camera, the camera failed, somebody killed it."""


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file that is to come.

    Attributes:
        name: The server's name for it, any text; **not** safe as a path, see `local_name`.
        size: Bytes, or None where the original does not tell.
    """

    name: str
    size: int | None = None


@dataclass(frozen=True, slots=True)
class Busy:
    """A stream is running; `KillRequest` ends it, then what was refused runs."""


@dataclass(frozen=True, slots=True)
class Ok:
    """The stream begins, or what was asked is done.

    Attributes:
        ssrc: SSRC of the stream if our own server sends it with the one it was asked for, or None.
    """

    ssrc: int | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """Our own server says no, and why.

    Attributes:
        kind: The kind of reason.
        reason: A sentence.
    """

    kind: RefusalKind
    reason: str


@dataclass(frozen=True, slots=True)
class FileList:
    """These files follow, in this order."""

    files: tuple[FileEntry, ...]


@dataclass(frozen=True, slots=True)
class Finished:
    """All files have been sent."""


FramedAnswer = Busy | Ok | Refused | FileList | Finished


def encode_names(names: Sequence[str]) -> bytes:
    """What precedes the first file's bytes for an original client: the pickled names and `DONE`.

    Between files goes `MORE`, behind the last one `QUIT`. An original client takes a read for a message,
    so each word is best sent when what was before it is on its way.
    """
    return write_names(names) + DONE


def encode_framed(answer: FramedAnswer) -> bytes:
    """An answer to a request with `Ours`; behind a `FileList` go the files' bytes, then `Finished`."""
    match answer:
        case Busy():
            fields: dict[str, Any] = {"answer": "busy"}
        case Ok(ssrc):
            fields = {"answer": "ok"} if ssrc is None else {"answer": "ok", "ssrc": ssrc}
        case Finished():
            fields = {"answer": "finished"}
        case Refused(kind, reason):
            fields = {"answer": "refused", "kind": kind, "reason": reason}
        case FileList(files):
            if any(one.size is None for one in files):
                raise UsageError("a framed answer tells every file's size")
            fields = {"answer": "files", "files": [{"name": one.name, "size": one.size} for one in files]}
    return encode_frame(json.dumps(fields, separators=(",", ":")).encode())


def local_name(name: str) -> str:
    """The name a server's file gets here: its base name with ``+`` for ``:``, safe on every system."""
    return safe_name(name.replace(":", "+"))
