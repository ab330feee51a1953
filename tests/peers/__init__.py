"""Cases of what other libraries promise."""
