"""Rollup rows of a venue's hour, day or week to its scores."""
