"""What the API answers, as `/openapi.json` describes it: closed models, one file for each group of operations.

Nothing is validated by them at run time: `answers.py` puts them into the description alone. That answers are what they
say is held by `tests/server/test_api_schema.py`.
"""
