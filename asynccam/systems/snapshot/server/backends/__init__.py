"""Backends: ways to take a picture."""
