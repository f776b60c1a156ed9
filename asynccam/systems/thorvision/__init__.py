"""ThorVision: the cameras of an XDAQ server, over HTTP and SRT."""

from asynccam.lazy_names import attach_stub

# The names stand in __init__.pyi: a client does not load the simulator.
__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
