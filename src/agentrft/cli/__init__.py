"""The commands, thin: each reads its arguments, calls `job`, `report` or `store`, and shows what came back.

`main` lists them; every error that a user can act on is shown in one place, `errors`.
"""

import os

# These libraries read their settings when they are imported, and they are imported all over the package.
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
# Grader processes are started while a tokenizer's threads exist; it would warn about each.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
