"""MultiCam: phones and OAK cameras over TCP."""

from asynccam.lazy_names import attach_stub

# The names stand in __init__.pyi: a controller does not load the device server.
__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
