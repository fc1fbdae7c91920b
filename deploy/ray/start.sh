#!/usr/bin/env bash
# Starts Ray on this node; further flags go to `ray start`.
#   start.sh head                 on the first node
#   start.sh HEAD_HOST:6379       on every other node
set -euo pipefail

where="${1:?head, or the address of the head node}"
shift
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

if [ "$where" = head ]; then
  exec ray start --head --port=6379 --include-dashboard=false "$@"
fi
exec ray start --address="$where" "$@"
