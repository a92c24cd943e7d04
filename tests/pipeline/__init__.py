"""Tests of `pipeline`, one file for each of its files."""
