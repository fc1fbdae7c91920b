"""PPO against an imperfect reward model, watched by the one that it imitates."""
