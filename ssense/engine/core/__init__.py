"""Values of the engine: cells, sweeps, matrices, power, budgets."""
