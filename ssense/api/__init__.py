"""Sweeps from Python: run one, and read what the storage has of it as tables, data and models."""
