"""Encoders, masks, losses and objectives."""
