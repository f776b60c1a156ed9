"""Transfers of file content from a socket to disk."""
