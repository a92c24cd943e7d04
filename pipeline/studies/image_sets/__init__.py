"""Labeled image sets by name."""
