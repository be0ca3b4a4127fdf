"""Enrolment: who may connect. Our own certificate authority, agents' bundles, the site register from a spreadsheet."""
