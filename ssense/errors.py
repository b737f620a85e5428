"""The one exception that a user is meant to read."""

from __future__ import annotations


class UserError(Exception):
    """Something the user can put right: one line with what, where, the value found and what to do.

    The command lines print the message without a traceback and exit with code 2.
    """
