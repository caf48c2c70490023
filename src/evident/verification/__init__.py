"""Authentic or not: chains, revocation, signatures, freshness and the links between pieces of evidence."""
