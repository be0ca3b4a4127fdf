"""The probes, by name: one file each, found in one dict."""
