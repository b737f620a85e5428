"""Sweeps over configurations and seeds: one readable file per question."""
