"""Sockets: downloads, mDNS, clocks."""
