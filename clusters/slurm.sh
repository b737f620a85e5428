#!/usr/bin/env bash
# A sweep on Slurm: one Ray over all nodes of the job, and the sweep on the first of them.
#
#   sbatch clusters/slurm.sh sweeps/masking.py --recording DIR    # without one: a synthetic trial
#   sbatch clusters/slurm.sh analysis/evaluate.py
#   tail -f ssense-JOB.log
#
# Flags of sbatch go before the script, and win over the lines below. What every site wants to know,
# four nodes of four GPUs each, and two cells on a GPU:
#
#   sbatch --partition=gpu --account=lab --nodes=4 --gpus-per-node=4 \
#     clusters/slurm.sh sweeps/masking.py --recording DIR --gpus-per-cell 0.5
#
# Every node brings the cores and GPUs that Slurm gives the job on it.
#
# When the time is up, or the job is preempted, it puts itself into the queue again and goes on where
# it was; `scancel JOB` ends it. Run it from the folder of the project, after `make .venv/installed`
# there; the folder and --storage lie on a shared disk.
#SBATCH --job-name=ssense
#SBATCH --output=ssense-%j.log
#SBATCH --open-mode=append
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --gpus-per-node=1
#SBATCH --time=12:00:00
# An interrupt before the end, to this script alone (B): `ray symmetric-run` would give the sweep a
# quarter of a second. On preemption it comes where the site has set `send_user_signal`.
#SBATCH --signal=B:INT@120
#SBATCH --requeue
set -euo pipefail

cd "$SLURM_SUBMIT_DIR"
export PATH="$PWD/.venv/bin:$PATH"
export SSENSE_STORAGE=${SSENSE_STORAGE:-$PWD/storage}
export SSENSE_YES=1 RAY_USAGE_STATS_ENABLED=0

# Nodes of a job are reached by other users of the machine room: Ray asks for a secret, one per job.
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')

# `ray symmetric-run` ends all of the user's Ray processes on a node: hence --exclusive above.
# Not through `head`, which would end scontrol by a signal, and so the script.
read -r head < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
read -r ip _ < <(srun --nodes=1 --ntasks=1 --nodelist="$head" hostname --ip-address)
address=$ip:6379
export RAY_ADDRESS=$address

# This script runs on the first node, as the sweep does: it can signal it past srun and Ray.
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

go_on_later() {
  if [ -e "$scratch/pid" ]; then
    sweep=$(cat "$scratch/pid")
    # TERM is an interrupt to the sweep, too, and also where INT is ignored. Is there none any more,
    # then it is done, and so is this job.
    kill -TERM "$sweep" 2>/dev/null || return 0
    for _ in {1..90}; do  # until it has given up its claim; not until Slurm ends us
      kill -0 "$sweep" 2>/dev/null || break
      sleep 1
    done
  fi
  echo "interrupted: into the queue again"
  scontrol requeue "$SLURM_JOB_ID"
}
trap go_on_later INT

# Not every node is there within Ray's 30 seconds.
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=300
# On each node, for nodes may differ. One task has all of a node's cores, to which srun might bind
# it one by one.
on_node='
  gpus=${SLURM_GPUS_ON_NODE:+--num-gpus=$SLURM_GPUS_ON_NODE}
  exec ray symmetric-run --address "$RAY_ADDRESS" --min-nodes "$SLURM_JOB_NUM_NODES" \
    --num-cpus="${SLURM_CPUS_ON_NODE:-1}" $gpus -- "$@"
'
# In the background, or a signal would wait for its end.
srun --cpu-bind=none bash -c "$on_node" ssense \
  bash -c 'echo $$ > "$0" && exec python "$@"' "$scratch/pid" "${1:-sweeps/masking.py}" "${@:2}" &
status=0
wait $! || status=$?
while kill -0 $! 2>/dev/null; do  # a signal has ended the waiting, and not the sweep
  status=0
  wait $! || status=$?
done
exit "$status"
