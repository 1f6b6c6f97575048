#!/bin/sh
# Runs a node in control groups and namespaces of its own, until it is killed:
#
#     boot.sh DIRECTORY ROOT PROGRAM NUMBER HIERARCHY...
#
# DIRECTORY contains the node's settings and receives its logs. The control group in each HIERARCHY has the same name.
# ROOT is an output directory of packages.sh, PROGRAM the program of tests/control-plane, and NUMBER the third part of
# the node's addresses.
set -eu
directory=$1 root=$2 program=$3 number=$4
shift 4

export group="${directory##*/}"
for hierarchy; do
    echo $$ >"$hierarchy/$group/cgroup.procs"
done

# The new namespace of control groups has these groups as its roots. In version 2, a group that contains other groups
# with processes must not have processes itself. When `unshare` is killed, the kernel also kills the node's first
# process and all its descendants.
export init="${0%/*}/init.sh"
exec unshare --cgroup -- sh -euc '
directory=$1 root=$2 program=$3 number=$4
shift 4
for hierarchy; do
    if [ -f "$hierarchy/$group/cgroup.subtree_control" ]; then
        mkdir "$hierarchy/$group/init"
        echo $$ >"$hierarchy/$group/init/cgroup.procs"
    fi
done
exec unshare --mount --net --pid --uts --ipc --fork --kill-child -- \
    env -i PATH="$root/bin" "$root/bin/busybox" sh "$init" "$directory" "$root" "$program" "$number"
' sh "$directory" "$root" "$program" "$number" "$@"
