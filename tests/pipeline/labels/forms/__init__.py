"""Tests of the forms of labels."""
