"""Grafana's dashboards and alert rules, in Chinese and in English, from one description.

`python -m grafana.generator` writes them; what is committed equals what it writes.
"""
