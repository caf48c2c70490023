"""Bytes into frozen dataclasses and back. Pure: no I/O, no trust, no clock. One module per format."""
