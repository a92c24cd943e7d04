"""Configuration: sections, choices from the catalogue, loading from YAML."""
