"""Support for the tests: images, servers, stores, and running services."""
