"""The inventory of a pool: found, left out by rule, lost."""
