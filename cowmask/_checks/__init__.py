"""Check what users pass, before anything is drawn or changed. Errors say what was expected, what came and what to do.

arguments    numbers, ranges, sizes, dtypes and devices
batches      images, targets, partners, masks and fills
predictions  what the consistency loss compares
networks     what a mean teacher copies and follows
"""
