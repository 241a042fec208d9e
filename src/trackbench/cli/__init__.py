"""The ``trackbench`` command."""
