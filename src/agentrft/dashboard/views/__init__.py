"""A file for each page: what it shows, as plain data that is also the page's JSON."""
