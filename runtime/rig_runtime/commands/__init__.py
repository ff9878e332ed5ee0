"""One module for each sub-command: `add_arguments(parser)` and `run(arguments) -> exit code`."""
