"""Readers of media containers: what a file really holds, found by reading its structure."""
