"""Controls: what a score reaches without the brain, by chance, or untrained."""
