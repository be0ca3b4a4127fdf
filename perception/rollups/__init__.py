"""Raw points of an hour to one row per series: counts, reasons, sums, quantiles, sketches."""
