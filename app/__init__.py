"""The service: HTTP routes over services over the stores and the model."""

__version__ = "0.1.0"
