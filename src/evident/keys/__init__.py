"""Secrets that are released on a statement."""
