"""nanocam: CSI cameras on a Jetson, their streams, and the media server and client between two computers."""

import lazy_loader

# The names stand in __init__.pyi: a client does not load the server.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
