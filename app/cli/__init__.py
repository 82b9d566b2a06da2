"""The command line: one module per command group, and the work behind its commands.

Modules that define commands import heavy libraries inside functions, which keeps ``--help`` fast.
"""
