"""Tests that kill, hang and race."""
