"""Columns of Parquet files: ids, images and metadata, as people write them."""
