"""Tests of `sisom`, one file for each of its files, and suites over all of it."""
