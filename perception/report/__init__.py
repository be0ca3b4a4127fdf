"""The weekly perception report: one model, four renderers."""
