#!/usr/bin/env bash
# A sweep on Slurm: one Ray over all nodes of the job, and the sweep on the first of them.
#
#   sbatch clusters/slurm.sh                                    # sweeps/masking.py
#   sbatch clusters/slurm.sh analysis/test_evaluation.py
#   tail -f ssense-JOB.log
#
# When the time is up, submit it again: it goes on where it was. Run it from the folder of the
# project, after `make .venv/installed` there; the folder and --storage lie on a shared disk.
#SBATCH --job-name=ssense
#SBATCH --output=ssense-%j.log
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --gpus-per-node=1
#SBATCH --time=12:00:00
# An interrupt before the end; Ray gives the driver a moment only. A claim that it leaves behind is
# taken over within a minute, and cells go on from their last checkpoint.
#SBATCH --signal=INT@120
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

# Not every node is there within Ray's 30 seconds.
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=300
srun ray symmetric-run --address "$address" --min-nodes "$SLURM_JOB_NUM_NODES" \
  --num-cpus "${SLURM_CPUS_ON_NODE:-1}" -- python "${1:-sweeps/masking.py}" "${@:2}"
