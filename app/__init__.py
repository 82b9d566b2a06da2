"""The service: HTTP routes over services over the stores and the model."""

from app.processor import refuse_numpy_without_avx2

__version__ = "0.1.0"

refuse_numpy_without_avx2()
