"""Benchmarks and faults, on real servers and real worker processes; what they print is what the docs may quote."""
