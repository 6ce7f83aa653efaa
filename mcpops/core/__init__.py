"""What everything stands on: errors and exit codes, clock, ids, secrets, paths. Imports nothing of ours."""
