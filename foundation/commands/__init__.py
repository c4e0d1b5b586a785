"""The command line of both programs: commands, errors, exit codes and completion in shells."""
