"""`agentrft serve`: the fine-tuning API of OpenAI, job workers and model serving in one process tree."""
