# Source this before `ray start` on every node, and before `assay serve --address`.
# Ray reads these variables once, when a node starts. What is set already stays.

export RAY_AUTH_MODE=token # each replica has a port on all interfaces that takes pickles
if [ -z "${RAY_AUTH_TOKEN:-}${RAY_AUTH_TOKEN_PATH:-}" ]; then
  echo "set RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH to a file: one secret for all nodes" >&2
  return 2
fi

export RAY_SERVE_ENABLE_HA_PROXY="${RAY_SERVE_ENABLE_HA_PROXY:-1}"
export RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD="${RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD:-0}"
export RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S="${RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S:-1}"
export RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S="${RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S:-300}"
export RAY_SERVE_HAPROXY_LOG_TARGET="${RAY_SERVE_HAPROXY_LOG_TARGET:-127.0.0.1:9}" # its log holds paths, and a path may hold a key
export RAY_SERVE_HAPROXY_METRICS_ENABLED="${RAY_SERVE_HAPROXY_METRICS_ENABLED:-0}"
export RAY_SERVE_HAPROXY_NBTHREAD="${RAY_SERVE_HAPROXY_NBTHREAD:-2}"
export RAY_SERVE_METRICS_EXPORT_INTERVAL_MS="${RAY_SERVE_METRICS_EXPORT_INTERVAL_MS:-10000}"
export RAY_enable_metrics_collection="${RAY_enable_metrics_collection:-0}"
export RAY_worker_niceness="${RAY_worker_niceness:-0}"
export RAY_USAGE_STATS_ENABLED="${RAY_USAGE_STATS_ENABLED:-0}"
export RAY_DEDUP_LOGS="${RAY_DEDUP_LOGS:-0}"
export RAY_COLOR_PREFIX="${RAY_COLOR_PREFIX:-0}"
