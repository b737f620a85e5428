"""Recordings and responses that are made up, with all that published files have."""
