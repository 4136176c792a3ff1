"""Tables of accepted receipts and what is counted from them month by month; one file per table."""
