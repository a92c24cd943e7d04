"""Tests of image sets."""
