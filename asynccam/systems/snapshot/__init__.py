"""Snapshot: pictures of V4L2 cameras, over REST; a client here, a server in `server`."""

import lazy_loader

# The names stand in __init__.pyi: a client does not load the server.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
