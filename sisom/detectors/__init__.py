"""Detectors: how strange images are, one score a row; higher is stranger."""
