"""Recordings as published: signals, channels and sentences, and the segments that they give."""
