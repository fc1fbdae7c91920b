"""How a replica follows promotions: loading beside the old version, holding requests, switching."""
