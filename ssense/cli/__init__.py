"""Command lines: flags from dataclasses, lines on a terminal, errors in one line."""
