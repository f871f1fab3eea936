"""agentrft: agent reinforcement fine-tuning of open-weight models on your own tools and grader."""

__version__ = "0.1.0"
