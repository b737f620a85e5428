"""Tables of scores of any origin, read from files."""
