"""What two Wanggan programs must agree on: records, messages, topics and stored names. No I/O, no settings."""
