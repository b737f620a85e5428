"""Where cells run: workers, their Ray, and what becomes of both."""
