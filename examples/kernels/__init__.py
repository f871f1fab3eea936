"""Kernels: an agent writes a C function for a PyTorch operator, compiles it, checks it, times it, and hands it in.

`operators.py` and `graphs.py` say what is asked, `c_source.py` writes C; `static_checks.py`, `compiler.py`, `runner.c`
with `runner.py`, `checking.py` and `timing.py` judge a source that nobody trusts; `bench.py` puts them together.
"""
