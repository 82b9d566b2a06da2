"""Raw requests that no HTTP client would send."""

from __future__ import annotations

HALF_A_REQUEST = (
    b"POST /masters HTTP/1.1\r\n"
    b"Host: 127.0.0.1\r\n"
    b"Content-Type: multipart/form-data; boundary=x\r\n"
    b"Content-Length: 1000\r\n"
    b"\r\n"
)
