"""Web pages that say how a job goes and why its model changed, and the report file, from the same templates.

Views turn what the store has into plain data; `pages.py` shows each as a page and as JSON at the same path.
"""
