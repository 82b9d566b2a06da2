"""The command line: one module per command group, and the work behind its commands.

The modules that define commands import heavy libraries inside functions, so that ``--help`` is fast.
"""
