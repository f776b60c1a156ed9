"""A Snapshot server: cameras of this computer, over REST, with a page for people."""

from asynccam.lazy_names import attach_stub

# The names stand in __init__.pyi: who only talks to servers loads none of it.
__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
