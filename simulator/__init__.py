"""A virtual fleet with scripted faults and known truth."""
