"""Archives of images, by their headers."""
