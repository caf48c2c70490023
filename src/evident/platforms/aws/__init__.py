"""One platform: see `profile` for what it lets anyone verify."""
