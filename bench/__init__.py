"""Benchmarks and the proof that nothing is lost. Each is a program: `python -m bench.<name> --help`."""
