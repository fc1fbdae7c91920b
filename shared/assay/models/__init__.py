"""Reward models: how they are found, loaded, fed, scored and saved. No server in here."""
