# The first process of a node, run by busybox in new namespaces: prepares the node's files, control groups and network,
# then runs containerd and the kubelet. Its arguments are those of boot.sh.
#
# All files outside DIRECTORY are in memory and vanish with the last process. No mount is visible outside the node.
set -eu
directory=$1 root=$2 program=$3 number=$4

new=$directory/root
mkdir "$new"
mount --bind "$root" "$new"
mount -o remount,bind,ro "$new"
mount -t proc proc "$new/proc"
mount -t sysfs -o ro sysfs "$new/sys"
mount --rbind /dev "$new/dev"
for name in etc node run tmp var; do
    mount -t tmpfs tmpfs "$new/$name"
done
mkdir "$new/node/old"
for name in settings log; do
    mkdir "$new/node/$name"
    mount --bind "$directory/$name" "$new/node/$name"
done
touch "$new/node/control-plane"
mount --bind "$program" "$new/node/control-plane"

groups=$new/sys/fs/cgroup
if grep -q '^[1-9]' /proc/self/cgroup; then
    mount -t tmpfs tmpfs "$groups"
    cut -d: -f2 /proc/self/cgroup | while read -r controllers; do
        [ -n "$controllers" ] || continue
        mkdir "$groups/${controllers#name=}"
        mount -t cgroup -o "$controllers" cgroup "$groups/${controllers#name=}"
        # `cpu,cpuacct` is found as `cpu` and as `cpuacct`.
        for controller in $(echo "${controllers#name=}" | tr , ' '); do
            [ -e "$groups/$controller" ] || ln -s "$controllers" "$groups/$controller"
        done
    done
else
    mount -t cgroup2 cgroup2 "$groups"
fi

cd "$new"
pivot_root . node/old
umount -l /node/old
mount --make-rshared /
export PATH=/usr/sbin:/usr/bin:/bin

# The kubelet sets these parameters for the whole machine. Here it only changes files that cover them.
mkdir /run/parameters
for name in vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops \
    kernel/keys/root_maxkeys kernel/keys/root_maxbytes; do
    file=/run/parameters/$(echo "$name" | tr / .)
    cat "/proc/sys/$name" >"$file"
    mount --bind "$file" "/proc/sys/$name"
done

hostname "node-$number"
echo "127.0.0.1 localhost" >/etc/hosts
: >/etc/resolv.conf
echo "root:x:0:0:root:/root:/bin/sh" >/etc/passwd
echo "root:x:0:" >/etc/group
tr -d - </proc/sys/kernel/random/uuid >/etc/machine-id
mkdir /var/lib /var/log
ln -s /run /var/run

# The bridge to which Pods are connected has the node's address. The Service `kubernetes` is at 10.96.0.1; the test
# process listens there.
ip link set lo up
ip address add 10.96.0.1/32 dev lo
ip link add pods type bridge
ip address add "10.88.$number.1/24" dev pods
ip link set pods up

containerd --config /node/settings/containerd.toml >/node/log/containerd.log 2>&1 &
containerd=$!
until [ -S /run/containerd/containerd.sock ]; do
    kill -0 "$containerd"
    sleep 0.05
done
ctr --namespace k8s.io images import /node/settings/busybox.tar
/node/control-plane kubelet --config=/node/settings/kubelet.json --kubeconfig=/node/settings/kubeconfig \
    --hostname-override="node-$number" --node-ip="10.88.$number.1" --cert-dir=/var/lib/kubelet/pki \
    >/node/log/kubelet.log 2>&1 &
# Ends with the kubelet, and reaps orphaned processes.
wait $!
