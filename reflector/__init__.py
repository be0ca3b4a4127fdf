"""The measurement server that agents test against."""
