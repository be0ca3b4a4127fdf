"""Scores: pure functions over numbers, one formula a file. What is not measured is None, and so is its score."""
