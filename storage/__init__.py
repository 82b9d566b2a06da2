"""The stores: metadata (the source of truth), objects (bytes) and vectors.

The package imports nothing from app/ or models/.
"""
