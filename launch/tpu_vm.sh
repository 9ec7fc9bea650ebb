#!/bin/bash
# Trains on all hosts of a Cloud TPU VM slice:
#
#   NAME=c1 ZONE=us-central1-a TYPE=v5litepod-16 SHARE=10.0.0.2:/share \
#     launch/tpu_vm.sh contrastive --config=configs/clip_b16.py \
#     --config.train.batch_size=1024 --workdir=/shared/runs/clip_b16 \
#     --data_dir=/shared/data
#
# Makes the slice if there is none or it was preempted, brings this clone to every host, installs
# it there and starts the same command on all of them, which find each other.
# The same line goes on with a run that stopped. Delete the slice afterwards:
#
#   gcloud compute tpus tpu-vm delete NAME --zone=ZONE
set -euo pipefail

: "${NAME:?of the slice}" "${ZONE:?such as us-central1-a}"
: "${TYPE:?such as v5litepod-16}" "${SHARE:?HOST:/FOLDER, NFS that all hosts see}"
version=${VERSION:-v2-alpha-tpuv5-lite}
experiment=$1
shift

tpu() {
  local verb=$1
  shift
  gcloud compute tpus tpu-vm "$verb" "$NAME" --zone="$ZONE" "$@"
}

state=$(tpu describe --format='value(state)' || true)
case $state in
  READY) ;;
  '' | PREEMPTED | TERMINATED)
    if [ -n "$state" ]; then tpu delete --quiet; fi
    tpu create --accelerator-type="$TYPE" --version="$version"
    ;;
  *)
    echo "error: slice $NAME is $state; wait until it is READY, or delete it" >&2
    exit 1
    ;;
esac

archive=$(mktemp --suffix=.tar.gz)
trap 'rm -f "$archive"' EXIT
git archive --format=tar.gz --output="$archive" HEAD
gcloud compute tpus tpu-vm scp "$archive" "$NAME:mmjax.tar.gz" \
  --zone="$ZONE" --worker=all

# What is quoted here is read again by the shells of the hosts.
arguments=$(printf ' %q' "$@")
tpu ssh --worker=all --command="
  set -euo pipefail
  if ! mountpoint -q /shared; then
    sudo apt-get -q install -y nfs-common
    sudo mkdir -p /shared
    sudo mount -t nfs '$SHARE' /shared
  fi
  mkdir -p mmjax && tar -xzf mmjax.tar.gz -C mmjax && cd mmjax
  test -d .venv || python3 -m venv .venv
  .venv/bin/pip install --quiet -e '.[${EXTRAS:-tpu}]'
  .venv/bin/python -m experiments.$experiment$arguments
"
