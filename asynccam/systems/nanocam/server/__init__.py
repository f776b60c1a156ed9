"""The nanocam media server."""
