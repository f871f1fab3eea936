"""Finance questions over filings: search, read a section, calculate, and answer with a number and where it stands."""
