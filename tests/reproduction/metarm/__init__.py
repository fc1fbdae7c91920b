"""Reproduction of MetaRM: what each update rule does to a reward model while the policy moves."""
