# The public names and where they live; `__init__.py` brings each in when it is first asked for.
from .server_options import MEDIA_PORT, MESSAGE_PORT, ServerLimits, WhenBusy

__all__ = [
    "MEDIA_PORT",
    "MESSAGE_PORT",
    "ServerLimits",
    "WhenBusy",
]
