"""One folder per platform: launch, collector, profile. `registry` alone imports them all."""
