"""Telling people and programs outside what happened: webhook, e-mail, a command, a ping."""
