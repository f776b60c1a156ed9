"""asynccam: one asyncio library for many unlike network cameras.

Find them, start them together, bring every file home whole, and write down what happened::

    async with Session() as session:
        cameras = await session.discover()
        take = await session.take(cameras, duration=5, directory=Path("takes/first"))

What all systems have in common stands here; each system's own client and messages are in
``asynccam.systems``.
"""

from asynccam.lazy_names import attach_stub

__version__ = "0.1.0"

# The names stand in __init__.pyi: a program pays for what it uses, not for every camera system there is.
__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
