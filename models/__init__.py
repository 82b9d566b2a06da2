"""Neural networks, which turn pixels into embeddings.

The package imports nothing from app/, and from storage/ only ``cores`` and ``durable_files``.
"""
