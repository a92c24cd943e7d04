"""The pool: listing, sharding and reading of images in a bucket."""
