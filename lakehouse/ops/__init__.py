"""Tables about the lakehouse itself: sources, ledger, quarantine, decisions, runs, releases."""
