"""Tests of the whole engine on a real Ray."""
