"""Tests of networks and detectors."""
