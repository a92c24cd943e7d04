"""Tests of what kinds of studies share."""
