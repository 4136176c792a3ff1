"""Tables that people ask, in groups; one file per table."""
