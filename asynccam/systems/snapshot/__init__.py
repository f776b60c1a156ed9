"""Snapshot: pictures of V4L2 cameras, over REST; a client here, a server in `server`."""

from asynccam.lazy_names import attach_stub

# The names stand in __init__.pyi: a client does not load the server.
__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
