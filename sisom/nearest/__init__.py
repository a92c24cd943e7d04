"""Exact nearest neighbors, inside and outside a class."""
