"""Readers of recordings: Brain Treebank, BIDS, files that MNE reads, and arrays."""
