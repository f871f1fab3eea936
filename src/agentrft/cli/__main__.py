"""`python -m agentrft.cli`: the same as `agentrft`."""

from agentrft.cli.main import app

if __name__ == "__main__":
    app(prog_name="agentrft")
