"""Camera systems, one package each, and what is needed to add one. See docs/adding-a-system.md."""

from asynccam.model.systems import System
from asynccam.systems._base import ConnectContext, Discovery, SystemAdapter
from asynccam.systems.registry import register

__all__ = ["ConnectContext", "Discovery", "System", "SystemAdapter", "register"]
