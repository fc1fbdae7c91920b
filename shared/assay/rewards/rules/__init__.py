"""Rules: rewards that are computed, not learned.

A rule is a callable `(prompt, completion, label) -> float | None`. Prompt and completion are texts
(chat messages as HH-style text), the label is what the request carries for that completion, None
without one. None says that the rule has no score to give; 0.0 is a score.

Rules of your own are entry points of the group `assay.rules`:

    [project.entry-points."assay.rules"]
    politeness = "my_package.rules:politeness"
"""
