"""Secrets at rest: what is stored encrypted, and how the key is kept and changed."""
