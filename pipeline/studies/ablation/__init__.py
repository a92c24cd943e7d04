"""The study of SISOM's variants."""
