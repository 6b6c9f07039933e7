"""``python -m transferlite``: the command line."""

from transferlite.cli.main import main

if __name__ == "__main__":
    main()
