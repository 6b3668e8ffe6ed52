"""The command line as a module: python -m attendgen."""

from attendgen.cli.app import main

if __name__ == "__main__":
    main()
