"""A PPO trainer that takes its rewards from a reward server over HTTP, as anyone's would."""
