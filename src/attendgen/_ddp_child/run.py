"""Train on a further device of a run that another process has started."""

from attendgen.hydra_app.app import main

if __name__ == "__main__":
    main()
