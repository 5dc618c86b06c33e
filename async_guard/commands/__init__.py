"""One file per subcommand: ``HELP``, ``add_arguments(parser)`` and ``run(options, out)``."""
