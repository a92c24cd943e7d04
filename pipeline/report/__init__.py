"""Reports: pages, plots and thumbnails."""
