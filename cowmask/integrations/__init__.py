"""Adapters to other libraries, each imported by name."""
