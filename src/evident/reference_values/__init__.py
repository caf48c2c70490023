"""What should have been measured, how strongly that is known, and by whom."""
