"""Evals that users make over the API: from a request to rows that were answered by a model, or came with answers, and
graded. `agentrft eval` and these share `job/evaluation.py`.
"""
