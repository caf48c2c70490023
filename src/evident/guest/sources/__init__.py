"""One module for each way in which a guest comes by evidence."""
