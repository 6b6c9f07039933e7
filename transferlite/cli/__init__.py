"""Command line of TransferLite: one module per command, imported only when the command runs."""
