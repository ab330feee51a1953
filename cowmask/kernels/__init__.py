"""Triton kernels. Imported when the first of them is needed: everything works without Triton."""
