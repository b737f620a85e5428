"""What every sweep shares: cells, the search for the next one, workers, ledger, tracking."""
