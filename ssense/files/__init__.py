"""Files of values: through one storage layer, whole or not there, and checked when read."""
