"""Start the service with `python api.py`: the same as `lookalike serve`."""

from app.cli.main import main

if __name__ == "__main__":
    main(["serve"])
