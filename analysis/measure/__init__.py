"""Scores of held-out tests, their statistics, and tables of both."""
