"""Encoders: what makes one embedding of a sentence of the spectrograms of all its electrodes."""
