"""Readers of media containers, in constant memory, for files that may be hostile."""
