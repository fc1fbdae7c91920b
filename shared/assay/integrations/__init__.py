"""Reward functions for other people's trainers, one module each; README.md has the lines to copy.

None imports its trainer before the trainer calls it. All of them talk to the native API through
`assay.client`, over connections that stay open, and raise the errors of `assay.errors` with what to
do about them: a failure never becomes a reward.
"""
