"""The command line: one thin file per command, each with NAME, HELP, add_arguments and run."""
