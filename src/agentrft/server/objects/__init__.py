"""Rows of the store as the API's objects: jobs, files, evals, metrics."""
