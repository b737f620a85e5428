"""Commands on what sweeps have left: evaluations, controls, comparisons, checks of a storage."""
