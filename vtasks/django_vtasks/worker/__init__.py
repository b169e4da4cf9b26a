"""The worker core: claims in bulk, runs, settles in bulk."""
