"""Machines under SPIFFE: what SPIRE attests, registers and certifies."""
