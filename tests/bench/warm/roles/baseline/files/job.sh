#!/bin/sh
# A job of every night; what it does is of no matter here.
exec logger -t baseline "$1"
