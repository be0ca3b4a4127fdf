"""Statistics as the weekly report states them: slots, quantiles, intervals, floors, changes, tiers, calendar."""
