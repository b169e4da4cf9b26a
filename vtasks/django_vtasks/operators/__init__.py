"""What operators see of a backend, and do with it: for commands now, and for pages."""
