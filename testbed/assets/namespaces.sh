# Runs the script $1 with the argument $2 in namespaces of its own, and takes the control groups $3 away when it has ended. Its
# standard input is open for as long as whoever wants all this is there.
set -eu
roots=/sys/fs/cgroup
# Version 1 has a tree for each controller.
[ -e "$roots/cgroup.controllers" ] || roots=$(find "$roots" -mindepth 1 -maxdepth 1 -type d)
for root in $roots; do mkdir -p "$root/$3"; done

# An interrupt ends it as anything does; what is left over is ours to remove.
trap : INT TERM
unshare --net --mount --pid --fork --kill-child --propagation private sh -c "$1" inside "$2" && status=0 || status=$?

# A control group is busy until the kernel is done with the processes that were in it.
for _ in 1 2 3 4 5 6 7 8 9 10; do
    left=
    for root in $roots; do
        [ ! -d "$root/$3" ] || find "$root/$3" -depth -type d -exec rmdir {} \; 2>/dev/null || :
        [ ! -d "$root/$3" ] || left=yes
    done
    [ -n "$left" ] || break
    sleep 0.2
done
exit "$status"
