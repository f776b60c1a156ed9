"""MediaMTX: cameras behind a MediaMTX Camera Service, by JSON-RPC over a WebSocket."""

from asynccam.lazy_names import attach_stub

# The names stand in __init__.pyi: a program that talks to a service does not load the simulated one.
__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
