"""The use cases, without HTTP: uploads, searches, deletions, checks and model changes."""
