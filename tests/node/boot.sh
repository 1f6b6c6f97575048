#!/bin/sh
# Runs a node in control groups and namespaces of its own, until it is killed:
#
#     boot.sh FOLDER ROOT PROGRAM NUMBER HIERARCHY...
#
# FOLDER has the node's settings and receives its logs. Its name is also that of the control group in each HIERARCHY.
# ROOT is an output folder of packages.sh, PROGRAM that of tests/control-plane, NUMBER the third part of the node's
# addresses.
set -eu
folder=$1 root=$2 program=$3 number=$4
shift 4

export group="${folder##*/}"
for hierarchy; do
    echo $$ >"$hierarchy/$group/cgroup.procs"
done

# The new namespace of control groups has the groups of above as its roots. In version 2, a group that contains other
# groups with processes may have no process itself. When `unshare` is killed, the node's first process is killed too,
# and with it all others.
export init="${0%/*}/init.sh"
exec unshare --cgroup -- sh -euc '
folder=$1 root=$2 program=$3 number=$4
shift 4
for hierarchy; do
    if [ -f "$hierarchy/$group/cgroup.subtree_control" ]; then
        mkdir "$hierarchy/$group/init"
        echo $$ >"$hierarchy/$group/init/cgroup.procs"
    fi
done
exec unshare --mount --net --pid --uts --ipc --fork --kill-child -- \
    env -i PATH="$root/bin" "$root/bin/busybox" sh "$init" "$folder" "$root" "$program" "$number"
' sh "$folder" "$root" "$program" "$number" "$@"
