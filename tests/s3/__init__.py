"""Tests of storage against a server of S3."""
