"""A Snapshot server: cameras of this computer, over REST, with a page for people."""

import lazy_loader

# The names stand in __init__.pyi: who only talks to servers loads none of it.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
