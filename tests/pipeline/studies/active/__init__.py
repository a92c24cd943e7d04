"""Tests of the active-learning study."""
