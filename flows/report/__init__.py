"""What a run tells: events, facts, its report, the log of runs."""
