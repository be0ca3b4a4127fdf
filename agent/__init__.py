"""The agent: schedule, probe, keep, publish. Runs unattended for months on a small box."""
