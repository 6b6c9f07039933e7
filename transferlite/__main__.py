"""Run the command line with ``python -m transferlite``."""

from transferlite.cli.main import main

if __name__ == "__main__":
    main()
