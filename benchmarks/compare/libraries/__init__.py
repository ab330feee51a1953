"""One file for each library, imported by name where the library is installed: each has a `LIBRARY`."""
