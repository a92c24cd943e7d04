"""Selectors: which images of a pool to ask about."""
