"""The feature bank: fitting, thinning, slopes, ratios, updates."""
