"""Tests of features of networks."""
