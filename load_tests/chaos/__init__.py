"""Faults against real servers and real worker processes under load; what it prints is what the docs may quote."""
