# The first process of the namespaces: when it ends, the kernel ends all others. Prints its number outside, once all is there.
set -eu
read -r outside _ </proc/self/stat
mount -t proc proc /proc

# Whatever programs leave in fixed places stays in here.
for dir in /run /var/lib /var/log; do mount -t tmpfs -o mode=755 tmpfs "$dir"; done

# The kubelet wants settings of the kernel that go for the whole machine. It shall find them, and change nothing.
mkdir /run/kernel
while read -r setting value; do
    pretended=/run/kernel/$(basename "$setting")
    echo "$value" >"$pretended"
    mount --bind "$pretended" "/proc/sys/$setting"
done <<SETTINGS
vm/overcommit_memory 1
vm/panic_on_oom 0
kernel/panic 10
kernel/panic_on_oops 1
kernel/keys/root_maxkeys 1000000
kernel/keys/root_maxbytes 25000000
SETTINGS

# Pods are at this bridge. The route leads nowhere; without one, nobody on the node could ask for a Service.
ip link set lo up
ip link add cni0 type bridge
ip addr add "$1/24" dev cni0
ip link set cni0 up
ip route add default dev cni0
echo 1 >/proc/sys/net/ipv4/ip_forward

# What runs in the background would have no standard input.
exec 3<&0 </dev/null
echo "$outside"
exec >&2
{ read -r _ <&3 || :; } &
# Meanwhile this takes note of orphans that end.
wait $!
