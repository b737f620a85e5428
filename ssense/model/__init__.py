"""Encoder, text tower, masks and loss."""
