"""Load, clients and figures for the demo and the benchmarks: nothing here is part of the installed program."""
