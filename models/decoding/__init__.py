"""Decodes images of unknown origin in child processes that have limits and no credentials."""
