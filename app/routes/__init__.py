"""HTTP: thin handlers that turn requests into calls of the services, and their values into responses."""
