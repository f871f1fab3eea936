"""File planning: an agent gets a change request and names the files of a repository that have to change.

It searches with a read-only shell and reads files; the score is the F1 of its paths, less a price for every turn.
"""
