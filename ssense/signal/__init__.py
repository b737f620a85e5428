"""Filters, re-referencing and superlet spectrograms."""
