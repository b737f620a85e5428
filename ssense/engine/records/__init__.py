"""What was done: the ledger, its driver, where a result comes from, and reports."""
