"""Thin handlers that turn requests into calls of services, and results into responses."""
