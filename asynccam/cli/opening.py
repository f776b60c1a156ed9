"""Opens the Session that a command works in.

Imported by commands when they run and not before: what stands behind a Session takes longer to
import than ``asynccam --help`` may take.
"""

from collections.abc import Sequence

from asynccam.session import Session


def open_session(interfaces: Sequence[str] | None = None, *, ntp_server: str | None = None) -> Session:
    """A Session whose mDNS keeps to the interfaces with these addresses, or uses all.

    Args:
        interfaces: Their addresses.
        ntp_server: As for `Session`.
    """
    return Session(interfaces=list(interfaces) if interfaces else None, ntp_server=ntp_server)
