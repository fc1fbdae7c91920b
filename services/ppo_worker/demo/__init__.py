"""The default task: a small policy that argues, and the prompts that it argues about."""
