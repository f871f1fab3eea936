"""Answers kept in memory: what hundreds of clients poll is read and written out once for each change."""
