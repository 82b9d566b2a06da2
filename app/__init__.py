"""The service: HTTP routes over use cases over the stores and the model."""
