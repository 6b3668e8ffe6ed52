"""The command line. It imports torch only in the commands that need it, so that --help is fast."""
