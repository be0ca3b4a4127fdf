"""The laboratory: network namespaces, cables, shapers, and a relay with delay, loss and a queue.

Tests and benchmarks share it. Everything is real (kernel, programs, packets) and stays on this machine. Needs root;
`features.missing` says what else.
"""
