#!/bin/bash
# Runs a sweep on several Cloud TPU VM slices, each of which is one worker:
#
#   SLICES=4 NAME=lr ZONE=us-central1-a TYPE=v5litepod-16 \
#     SHARE=10.0.0.2:/share launch/sweep_tpu_vm.sh \
#     --sweep=configs/sweeps/contrastive_lr.py --workdir=/shared/sweeps/lr \
#     --data_dir=/shared/data
#
# The slices NAME-0, NAME-1, ... are made as launch/tpu_vm.sh makes one. The same
# line starts again those that were lost; delete all of them afterwards.
set -euo pipefail

: "${SLICES:?how many}" "${NAME:?of the slices, before their numbers}"
here=$(dirname "$0")

workers=()
for ((i = 0; i < SLICES; i++)); do
  NAME="$NAME-$i" EXTRAS=tpu,sweep "$here/tpu_vm.sh" sweep "$@" \
    >"$NAME-$i.log" 2>&1 &
  workers+=($!)
done

failed=0
for i in "${!workers[@]}"; do
  if ! wait "${workers[$i]}"; then
    echo "worker $i ended early; see $NAME-$i.log" >&2
    failed=1
  fi
done
exit "$failed"
