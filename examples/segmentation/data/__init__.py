"""Data sets: what one is, how each is read, and how the trainer draws batches from it."""
