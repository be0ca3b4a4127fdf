"""Rollups, scores, verdicts and the weekly report."""
