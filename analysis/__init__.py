"""The counted look at held-out test splits: evaluation, statistics, figures."""
