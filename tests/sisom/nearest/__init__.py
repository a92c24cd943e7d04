"""Tests of the nearest-neighbor search."""
