#!/bin/sh
echo "twin: $*"; echo aside >&2
