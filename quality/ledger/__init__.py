"""Every source row accounted for: an independent count of each file, and what became of its lines."""
