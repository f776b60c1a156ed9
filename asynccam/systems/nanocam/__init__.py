"""nanocam: CSI cameras on a Jetson, their streams, and the media server and client between two computers."""

from asynccam.lazy_names import attach_stub

# The names stand in __init__.pyi: a client does not load the server.
__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
