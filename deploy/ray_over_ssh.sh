#!/usr/bin/env bash
# Runs an agentrft command with a Ray cluster of this machine and of others that ssh reaches without a password:
#   deploy/ray_over_ssh.sh HOST [HOST ...] -- agentrft train job.yaml
# The job has `cluster: {rollout_workers: N, address: auto}`. agentrft, the model and the folder `AGENTRFT_HOME` (its
# environment; by default that of the `agentrft` found here) are at the same place on every machine.
#
#   RAY_PORT=6379      of the head, which the other machines must reach, and nobody else: Ray asks for no password
#   RAY_HOST=ADDRESS   of this machine as the others see it; the first address of `hostname -I` without it
#   SSH="ssh …"        how hosts are reached
set -euo pipefail

hosts=()
while [[ $# -gt 0 && $1 != -- ]]; do
    hosts+=("$1")
    shift
done
if [[ $# -lt 2 || ${#hosts[@]} -eq 0 ]]; then
    sed -n '2,10p' "$0" >&2
    exit 2
fi
shift

command -v agentrft >/dev/null || { echo "agentrft is not on the PATH: activate its environment first." >&2; exit 2; }
home=${AGENTRFT_HOME:-$(dirname "$(dirname "$(readlink -f "$(command -v agentrft)")")")}
port=${RAY_PORT:-6379}
host=${RAY_HOST:-$(hostname -I | cut -d' ' -f1)}
read -r -a ssh <<<"${SSH:-ssh -o BatchMode=yes -o ConnectTimeout=10}"
export RAY_USAGE_STATS_ENABLED=0
# Rollout workers beside the job are not the last to get a processor.
export RAY_worker_niceness=0

started=()
stop() {
    for one in ${started[@]+"${started[@]}"}; do
        "${ssh[@]}" "$one" "$home/bin/ray" stop >/dev/null 2>&1 || echo "Ray was not stopped on $one." >&2
    done
    "$home/bin/ray" stop >/dev/null 2>&1 || true
}
trap stop EXIT

"$home/bin/ray" start --head --node-ip-address="$host" --port="$port" --include-dashboard=false >/dev/null
for one in "${hosts[@]}"; do
    "${ssh[@]}" "$one" RAY_USAGE_STATS_ENABLED=0 "$home/bin/ray" start --address="$host:$port" >/dev/null ||
        { echo "$one did not join: is $home there, and does it reach $host:$port?" >&2; exit 1; }
    started+=("$one")
done
RAY_ADDRESS="$host:$port" "$@"
