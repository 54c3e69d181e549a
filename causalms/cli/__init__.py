"""The verbs of the command line, one module each: arguments and printing only, the work is in the rooms."""
