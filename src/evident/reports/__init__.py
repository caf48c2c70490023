"""A TrustStatement for people and for machines. Decides nothing."""
