"""Measurements, each started by hand."""
