"""Verified evidence against reference values under a policy: the TrustStatement."""
