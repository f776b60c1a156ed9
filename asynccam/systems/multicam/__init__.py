"""MultiCam: phones and OAK cameras over TCP."""

import lazy_loader

# The names stand in __init__.pyi: a controller does not load the device server.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
