"""The data of each task: planned, made, and asked for by flags."""
