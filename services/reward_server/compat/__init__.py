"""The routes of other systems, so that their clients need no change but a URL.

One module per system: it parses that system's body, asks `core.answer` for the values, and writes
that system's reply; errors take that system's shape by `errors`. A body with one full text is
split into messages by `text`. Scores are those of `POST /v1/score`, raw unless the caller asks for
an activation by name. These routes wait for room and then answer 503; never 429, and never a
made-up number for a text without a score.

Nothing is cut silently: the header `X-Assay-Truncated` counts the inputs that lost tokens.

On each of them the query may say: `model`, `reward`, `lcb_k`, `policy`, `statistic`, `tap_policy`
and `tap_step` (`query.Asked`). Clients that append a route to a base URL take the same in the path:
`http://HOST:PORT/k/KEY/m/name@7/q/reward=lcb&lcb_k=2`, each part of it if need be. A body's `model`
may be the served name, a version of it, or what the server was started with.
"""
