"""Evident: create confidential VMs, attest them from scratch, and say what each layer of them is worth."""

__version__ = "0.1.0"
