"""The front door: one command, ``transferlite``, that opens each room only when it is asked for."""

__version__ = "0.1.0"
