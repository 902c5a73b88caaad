"""Modules that gateways load, so that their calls are checked and recorded.

Each stands on the client alone, as it runs in the gateway's own process beside the gateway's own
packages, and imports the gateway's library only in the module that is named after it.
"""
