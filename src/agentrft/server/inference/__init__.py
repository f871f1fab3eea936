"""Chat with base models and trained ones, over OpenAI's Chat Completions and Responses, by the embedded engine.

A process of its own (`python -m agentrft.server.inference`), so that no model is in the API server's memory or way.
"""
