"""Coding whole visit notes: which diagnoses a note has, and which only look like it; each looked up in ICD-10-CM."""
