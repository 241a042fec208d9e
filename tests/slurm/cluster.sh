#!/usr/bin/env bash
# A SLURM of one node with a fake GPU on this machine, for tests of profiles/slurm. Needs root.
#
#   tests/slurm/cluster.sh start [--install] [--for PID]   configure and start munged, slurmctld, slurmd
#                                --install: packages first; --for: stop when this process has ended, however it ended
#   tests/slurm/cluster.sh status                          0 = the node takes jobs
#   tests/slurm/cluster.sh stop                            cancel all jobs, stop the daemons, remove the configuration
#
# Exit codes: 0 done, 1 SLURM does not work though all it needs is there, 2 used wrongly, 3 not possible here: no root, no
# packages and none to be had, a SLURM of somebody else. The reason is the last line of standard error.
# Everything is in TRACKBENCH_SLURM (default /var/tmp/trackbench-slurm) except the configuration: programs inside jobs
# find it in /etc/slurm only. A slurm.conf that this script has not written is never touched. tasks.txt there has a line
# for each task that ran. TRACKBENCH_SLURM_CPUS and TRACKBENCH_SLURM_MB: CPUs and memory of the node; more than there
# are is fine, jobs share them then. Daemon logs are left when it stops.
set -euo pipefail

HOME_DIR=${TRACKBENCH_SLURM:-/var/tmp/trackbench-slurm}
ETC=/etc/slurm
MARK="# written by tests/slurm/cluster.sh of trackbench"
PACKAGES=(slurmctld slurmd slurm-client munge)
DAEMONS=(slurmd slurmctld munged) # in the order they are stopped
PATH=$PATH:/usr/sbin:/sbin

impossible() {
  echo "slurm: $1" >&2
  exit 3
}

fault() {
  echo "slurm: $1" >&2
  exit 1
}

is_running() { # by pid file: does the process that the daemon $1 has written down still live under that name?
  local pid
  pid=$(cat "$HOME_DIR/$1.pid" 2>/dev/null) && [ -n "$pid" ] && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$1" ]
}

wait_for() { # wait_for SECONDS COMMAND...: until it succeeds
  local end=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $end ] || return 1
    sleep 0.2
  done
}

is_ours() { head -n 1 "$ETC/slurm.conf" 2>/dev/null | grep -qxF "$MARK"; }

node_state() { sinfo --noheader --format=%t 2>/dev/null; }

takes_jobs() { case $(node_state) in idle | mix | alloc) true ;; *) false ;; esac; }

missing() { # programs that are not installed
  local name
  for name in munged slurmctld slurmd sbatch srun; do command -v "$name" >/dev/null || echo -n "$name "; done
}

check() {
  [ "$(id -u)" = 0 ] || impossible "needs root"
  [ -z "$(missing)" ] || impossible "not installed: $(missing); run tests/slurm/cluster.sh start --install"
  [ ! -e "$ETC/slurm.conf" ] || is_ours || impossible "$ETC/slurm.conf is of another SLURM, which is left alone"
}

install() {
  [ "$(id -u)" = 0 ] || impossible "needs root"
  [ -n "$(missing)" ] || return 0
  command -v apt-get >/dev/null || impossible "no apt-get to install ${PACKAGES[*]} with"
  export DEBIAN_FRONTEND=noninteractive
  local reachable=yes
  apt-get -qq --error-on=any update >&2 || reachable=""
  # The scripts of the packages must not start daemons of their own.
  local guard=/usr/sbin/policy-rc.d made="" code=0
  [ -e $guard ] || { printf '#!/bin/sh\nexit 101\n' >$guard && chmod +x $guard && made=yes; }
  apt-get -qq -y --no-install-recommends install "${PACKAGES[@]}" >&2 || code=$?
  [ -z "$made" ] || rm -f $guard
  [ $code = 0 ] || [ -n "$reachable" ] || impossible "the packages are not to be had: apt-get update failed"
  [ $code = 0 ] || fault "apt-get install ${PACKAGES[*]} failed"
  [ -z "$(missing)" ] || fault "still not installed: $(missing)"
}

configure() {
  local cpus host
  cpus=${TRACKBENCH_SLURM_CPUS:-$(nproc)}
  host=$(hostname -s)
  mkdir -p "$HOME_DIR"/{state,spool,munge} "$ETC"
  chown munge: "$HOME_DIR/munge"
  cat >"$ETC/slurm.conf" <<CONF
$MARK
ClusterName=trackbench
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$HOME_DIR/munge/socket
CredType=cred/munge
SlurmctldPort=16817
SlurmdPort=16818
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/none
ReturnToService=2
MinJobAge=3600
KillWait=30
OverTimeLimit=0
SchedulerParameters=sched_interval=2,defer_batch=no
SlurmctldTimeout=120
SlurmdTimeout=120
SlurmdParameters=config_overrides
StateSaveLocation=$HOME_DIR/state
SlurmdSpoolDir=$HOME_DIR/spool
SlurmctldPidFile=$HOME_DIR/slurmctld.pid
SlurmdPidFile=$HOME_DIR/slurmd.pid
SlurmctldLogFile=$HOME_DIR/slurmctld.log
SlurmdLogFile=$HOME_DIR/slurmd.log
GresTypes=gpu
TaskProlog=$HOME_DIR/record.sh
NodeName=$host NodeAddr=127.0.0.1 CPUs=$cpus RealMemory=${TRACKBENCH_SLURM_MB:-16000} Gres=gpu:fake:1 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
  # What each task of a job gets: its job, its step and the GPU it may use.
  printf '%s\n' '#!/bin/sh' "echo \"\$SLURM_JOB_ID \$SLURM_STEP_ID gpu=\$CUDA_VISIBLE_DEVICES\" >>'$HOME_DIR/tasks.txt'" \
    >"$HOME_DIR/record.sh"
  chmod +x "$HOME_DIR/record.sh"
  # A device file that exists everywhere: jobs get CUDA_VISIBLE_DEVICES=0 and nothing behind it.
  printf '%s\n' "$MARK" "NodeName=$host Name=gpu Type=fake File=/dev/null" >"$ETC/gres.conf"
}

start() {
  check
  if takes_jobs; then
    echo "slurm: already running"
    return
  fi
  stop_daemons
  configure
  trap 'stop' EXIT # a start that fails leaves nothing behind
  # An account of its own runs munged: it wants its folders closed to others.
  [ -s /etc/munge/munge.key ] || fault "/etc/munge/munge.key is missing; the package munge makes it"
  runuser -u munge -- munged --socket="$HOME_DIR/munge/socket" --pid-file="$HOME_DIR/munge/munged.pid" \
    --log-file="$HOME_DIR/munge/munged.log" --seed-file="$HOME_DIR/munge/seed" ||
    fault "munged does not start, see $HOME_DIR/munge/munged.log"
  ln -sf munge/munged.pid "$HOME_DIR/munged.pid"
  wait_for 10 encoded || fault "munge does not answer"
  slurmctld || fault "slurmctld does not start, see $HOME_DIR/slurmctld.log"
  wait_for 15 scontrol ping || fault "slurmctld does not answer, see $HOME_DIR/slurmctld.log"
  slurmd || fault "slurmd does not start, see $HOME_DIR/slurmd.log"
  wait_for 30 takes_jobs || fault "the node stays $(node_state), see $HOME_DIR/slurmd.log"
  trap - EXIT
  sinfo --noheader --format="slurm: node %N, %c CPUs, %m MB, %G, state %t"
}

encoded() { munge --socket="$HOME_DIR/munge/socket" -n | unmunge --socket="$HOME_DIR/munge/socket"; }

stop_daemons() {
  local name pid
  for name in "${DAEMONS[@]}"; do
    is_running "$name" || continue
    pid=$(cat "$HOME_DIR/$name.pid")
    kill "$pid" 2>/dev/null || true
    wait_for 10 gone "$pid" || kill -KILL "$pid" 2>/dev/null || true
  done
}

gone() { [ ! -e "/proc/$1" ]; }

kill_leftovers() { # processes of jobs: without cgroups SLURM loses sight of those whose parent has ended
  local path
  for path in /proc/[0-9]*; do
    if grep -qzx "SLURM_CLUSTER_NAME=trackbench" "$path/environ" 2>/dev/null; then
      kill -KILL "${path#/proc/}" 2>/dev/null || true
    fi
  done
}

stop() {
  [ "$(id -u)" = 0 ] || impossible "needs root"
  if is_ours && is_running slurmctld; then
    scancel --full --user=root >/dev/null 2>&1 || true
    wait_for 20 no_jobs || true
  fi
  stop_daemons
  kill_leftovers
  if is_ours; then rm -f "$ETC/slurm.conf" "$ETC/gres.conf"; fi
  rm -rf "$HOME_DIR"/{state,spool,munge,*.pid,record.sh,tasks.txt}
}

no_jobs() { [ -z "$(squeue --noheader)" ]; }

status() {
  local name
  for name in "${DAEMONS[@]}"; do
    if is_running "$name"; then echo "$name runs"; else echo "$name does not run"; fi
  done
  takes_jobs
}

watch() { # stop all when the process $1 has ended, unless it is stopped before
  while is_running slurmctld; do
    gone "$1" && { stop; return; }
    sleep 1
  done
}

usage() {
  sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2
  exit 2
}

command=${1:-}
shift || true
case "$command" in
start)
  owner=""
  while [ $# -gt 0 ]; do
    case $1 in
    --install) install ;;
    --for) owner=${2:?PID} && shift ;;
    *) usage ;;
    esac
    shift
  done
  start
  if [ -n "$owner" ]; then setsid "$(realpath "$0")" watch "$owner" </dev/null >/dev/null 2>&1 & fi
  ;;
watch) watch "$1" ;;
stop) stop ;;
status) status ;;
*) usage ;;
esac
