"""Reports in the forms that other tools emit, turned back into the exact bytes that the hardware signed."""
