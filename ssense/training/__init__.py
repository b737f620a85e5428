"""The loop of every training, and what one cell of each task trains."""
