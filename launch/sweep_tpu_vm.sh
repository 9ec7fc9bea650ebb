#!/bin/bash
# Runs a sweep on several Cloud TPU VM slices, each of which is one worker:
#
#   SLICES=4 NAME=lr ZONE=us-central1-a TYPE=v5litepod-16 \
#     SHARE=10.0.0.2:/share launch/sweep_tpu_vm.sh \
#     --sweep=configs/sweeps/contrastive_lr.py --workdir=/shared/sweeps/lr \
#     --data_dir=/shared/data
#
# The slices NAME-0, NAME-1, ... are made as launch/tpu_vm.sh makes one, and go
# on without this terminal. The same line starts again those that were lost or
# stopped, and leaves the others alone; delete all of them afterwards.
set -euo pipefail

: "${SLICES:?how many}" "${NAME:?of the slices, before their numbers}"
cd "$(dirname "$0")/.."

mkdir -p runs # Which git ignores.
workers=()
for ((i = 0; i < SLICES; i++)); do
  NAME="$NAME-$i" EXTRAS=tpu,sweep launch/tpu_vm.sh sweep "$@" \
    >"runs/$NAME-$i.log" 2>&1 &
  workers+=($!)
done

failed=0
for i in "${!workers[@]}"; do
  log=runs/$NAME-$i.log
  if wait "${workers[$i]}"; then
    echo "worker $i is running; $log tells how to follow and stop it"
  else
    echo "worker $i was not started; the end of $log:" >&2
    tail -n 4 "$log" >&2
    failed=1
  fi
done
exit "$failed"
