"""Tests of the detection study."""
