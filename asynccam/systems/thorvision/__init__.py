"""ThorVision: the cameras of an XDAQ server, over HTTP and SRT."""

import lazy_loader

# The names stand in __init__.pyi: a client does not load the simulator.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
