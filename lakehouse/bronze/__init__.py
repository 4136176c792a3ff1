"""Tables of lines as they were delivered."""
