"""The deployment: specification, state, journal."""
