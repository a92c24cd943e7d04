"""Tests of the parts of a training."""
