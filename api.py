"""python api.py: serve on the address of the settings, http://127.0.0.1:8000 unless set otherwise."""

import sys

from app.server import serve

if __name__ == "__main__":
    sys.exit(serve())
