"""Reads what Pillow needs help with: file signatures, chunks, segments and sizes."""
