"""One tree of errors, mapped once to RFC 9457 problem+json with a stable ``code``.

- AppError
  - InvalidInput     422   what was sent does not fit; says what would
  - Unauthorized     401
  - Forbidden        403
  - NotFound         404
  - Conflict         409
  - TooLarge         413
  - WrongMediaType   415
  - BodyTooSlow      408
  - WrongHost        400
  - Disconnected     400   for the log: nobody is there to read it
  - Unavailable      503   with Retry-After
"""

from __future__ import annotations


class AppError(Exception):
    status = 500

    def __init__(self, code: str, detail: str, *, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.headers = headers or {}


class InvalidInput(AppError):
    status = 422


class Unauthorized(AppError):
    status = 401


class Forbidden(AppError):
    status = 403


class NotFound(AppError):
    status = 404


class Conflict(AppError):
    status = 409


class TooLarge(AppError):
    status = 413


class WrongMediaType(AppError):
    status = 415


class BodyTooSlow(AppError):
    status = 408


class Disconnected(AppError):
    status = 400


class WrongHost(AppError):
    status = 400


class Unavailable(AppError):
    status = 503

    def __init__(self, code: str, detail: str, retry_after: int = 1) -> None:
        super().__init__(code, detail, headers={"Retry-After": str(retry_after)})
