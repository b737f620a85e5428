"""Sweeps over configurations and seeds: one readable file per claim, plus the engine."""
