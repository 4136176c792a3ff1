"""Time series, weekdays, distributions, correlations."""
