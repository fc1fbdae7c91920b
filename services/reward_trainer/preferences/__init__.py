"""Tables of preference pairs: read from files or the hub, grouped, digested and written."""
