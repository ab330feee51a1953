"""Triton kernels. They are imported when they are first needed, since everything works without Triton."""
