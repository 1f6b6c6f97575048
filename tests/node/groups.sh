#!/bin/sh
# Creates a control group in every hierarchy, prints the hierarchies, and removes the groups and their descendants when
# stdin is closed:
#
#     groups.sh NAME
#
# Version 1 of control groups has a hierarchy for each controller, version 2 one for all controllers.
set -eu
name=$1

hierarchies=$(awk '$3 == "cgroup" { print $2 }' /proc/mounts)
if [ -z "$hierarchies" ]; then
    hierarchies=$(awk '$3 == "cgroup2" { print $2 }' /proc/mounts)
fi

# A group is in use until its last process is gone.
remove() {
    for hierarchy in $hierarchies; do
        while [ -d "$hierarchy/$name" ]; do
            find "$hierarchy/$name" -depth -type d -exec rmdir {} + 2>/dev/null || sleep 0.1
        done
    done
}
trap remove EXIT

for hierarchy in $hierarchies; do
    mkdir -p "$hierarchy/$name"
    # The controller `cpuset` accepts no process into a group without processors and memory.
    for file in cpuset.cpus cpuset.mems; do
        if [ -f "$hierarchy/$file" ]; then
            cat "$hierarchy/$file" >"$hierarchy/$name/$file"
        fi
    done
done
# Without quotes, the list becomes one line.
echo $hierarchies
exec >/dev/null
cat
