"""One wing for each camera system; no wing imports another."""
