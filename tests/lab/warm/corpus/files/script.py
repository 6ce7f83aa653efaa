#!/usr/bin/python3
"""A script that is sent to a host."""

import sys

print("python script", sys.argv[1:])
