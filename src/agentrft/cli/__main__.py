"""The `agentrft` command as a process: also `python -m agentrft.cli`."""

from agentrft.program import collect_less


def main() -> None:
    collect_less()
    from agentrft.cli.main import app

    app(prog_name="agentrft")


if __name__ == "__main__":
    main()
