"""Which segment of a venue's hour is to blame, with what confidence, and what adjacent hours amount to.

``judge(hour)`` is pure: rollup rows of one hour and network in, a verdict for each venue out. ``Verdicts`` reads and
writes a store: ``await verdicts.judge([hour_ns], jobs)`` after an hour was rolled or rolled again.
"""
