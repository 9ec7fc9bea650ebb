#!/bin/bash
# Trains on all hosts of a Cloud TPU VM slice:
#
#   NAME=c1 ZONE=us-central1-a TYPE=v5litepod-16 SHARE=10.0.0.2:/share \
#     launch/tpu_vm.sh contrastive --config=configs/clip.py:b16 \
#     --config.train.batch_size=1024 --workdir=/shared/runs/clip_b16 \
#     --data_dir=/shared/data
#
# Makes the slice if there is none or it was preempted, brings the commit that
# is checked out here to every host, installs it there and starts the same
# command on all of them, which find each other. The run goes on without this
# terminal. Each host writes to mmjax.log in its home; how to follow and how to
# stop the run is told at the end. The same line goes on with a run that
# stopped, and starts nothing beside one that is running. Delete the slice
# afterwards:
#
#   gcloud compute tpus tpu-vm delete NAME --zone=ZONE
set -euo pipefail

: "${NAME:?of the slice}" "${ZONE:?such as us-central1-a}"
: "${TYPE:?such as v5litepod-16}" "${SHARE:?HOST:/FOLDER, NFS for all hosts}"
experiment=${1:?such as contrastive}
shift
# What is quoted here is read again by the shells of the hosts.
command=$experiment${1+$(printf ' %q' "$@")}
cd "$(dirname "$0")/.."

case $TYPE in
  v6e-*) version=v2-alpha-tpuv6e ;;
  v5p-*) version=v2-alpha-tpuv5 ;;
  v5litepod-*) version=v2-alpha-tpuv5-lite ;;
  v[234]-*) version=tpu-ubuntu2204-base ;;
  *) version=${VERSION:?of the software for TYPE=$TYPE} ;;
esac
version=${VERSION:-$version}

changed=$(git status --porcelain)
if [ -n "$changed" ]; then
  echo "error: hosts get what is committed. Commit, remove or ignore these:" >&2
  echo "$changed" >&2
  exit 1
fi

tpu() {
  local verb=$1
  shift
  gcloud compute tpus tpu-vm "$verb" "$NAME" --zone="$ZONE" "$@"
}

tell() {
  local ssh="gcloud compute tpus tpu-vm ssh $NAME --zone=$ZONE"
  echo "To follow it: $ssh --command='tail -F mmjax.log'"
  echo "To stop it:   $ssh --command='kill \$(cat mmjax.pid)'"
}

state=$(tpu describe --format='value(state)' || true)
case $state in
  READY) ;;
  '' | PREEMPTED | TERMINATED)
    if [ -n "$state" ]; then tpu delete --quiet; fi
    tpu create --accelerator-type="$TYPE" --version="$version"
    ;;
  *)
    echo "error: $NAME is $state; wait until it is READY, or delete it" >&2
    exit 1
    ;;
esac

# Who runs holds the lock, and loses it however it ends.
running=$(tpu ssh --worker=all \
  --command='flock -n mmjax.lock true || cat mmjax.command' | sort -u)
if [ -n "$running" ]; then
  echo "Started nothing, since $NAME is running: $running"
  tell
  [ "$running" = "$command" ] || exit 1
  exit 0
fi

archive=$(mktemp --suffix=.tar.gz)
trap 'rm -f "$archive"' EXIT
git archive --format=tar.gz --output="$archive" HEAD
gcloud compute tpus tpu-vm scp "$archive" "$NAME:mmjax.tar.gz" \
  --zone="$ZONE" --worker=all

# uv brings its own Python, since the images have 3.10, which is too old.
tpu ssh --worker=all --command="
  set -euo pipefail
  if ! mountpoint -q /shared; then
    sudo apt-get -q -o DPkg::Lock::Timeout=300 install -y nfs-common
    sudo mkdir -p /shared
    sudo mount -t nfs '$SHARE' /shared
  fi
  mkdir -p mmjax && tar -xzf mmjax.tar.gz -C mmjax && cd mmjax
  PATH=~/.local/bin:\$PATH
  command -v uv >/dev/null || curl -LsSf https://astral.sh/uv/install.sh | sh
  test -x .venv/bin/python || uv venv --quiet --clear --python=3.12
  uv pip install --quiet --python=.venv/bin/python -e '.[${EXTRAS:-tpu}]'
  trap '' HUP  # The end of this connection.
  (
    exec 9>~/mmjax.lock
    flock -n 9
    echo $(printf %q "$command") >~/mmjax.command
    echo \$BASHPID >~/mmjax.pid
    exec setsid .venv/bin/python -m experiments.$command
  ) </dev/null >>~/mmjax.log 2>&1 &
"
echo "Started on all hosts of $NAME."
tell
