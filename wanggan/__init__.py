"""The front door: the `wanggan` command."""
