"""Measurements made through the package's own functions; each module is a command."""
