"""Which cell runs next: Optuna's proposals and the race."""
