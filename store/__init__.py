"""Stored data: one interface by intent, and its engines. Query languages never leave an engine's file."""
