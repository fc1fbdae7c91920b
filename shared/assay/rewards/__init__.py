"""From the members' scores to what users ask for: aggregates, strength, contrastive rewards."""
