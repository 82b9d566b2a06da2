"""python -m app.cli: the command line without an installed entry point."""

from app.cli.main import main

main()
