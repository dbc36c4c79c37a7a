# The first process of a node's world, by `unshare`: sets up its network and its mounts, then runs what it is told to.
# It waits for one line first, the process of `unshare`: if who started it dies before it can end us, it never comes.
# $1: the node's folder, $2: its address, the rest: a program and its arguments.
set -e
read -r WEIR_E2E_NODE_PROCESS || exit 125
export WEIR_E2E_NODE_PROCESS
folder=$1 address=$2
shift 2

ip link set lo up
# A bridge without ports, since not every kernel has `dummy`. The default route leads nowhere; a node has to have one.
ip link add node0 type bridge
ip address add "$address/24" dev node0
ip link set node0 up
ip route add default dev node0

# What kubelet, containerd and CNI write outside the folders that they are told: it ends with this world.
mount -t tmpfs tmpfs /run
mkdir "$folder/over"
mount -t tmpfs tmpfs "$folder/over"
for place in /var/lib /var/log; do
    upper=$folder/over$place
    mkdir -p "$upper" "$upper.work"
    mount -t overlay -o "lowerdir=$place,upperdir=$upper,workdir=$upper.work" overlay "$place"
done

# Not `exec`: the first process of a world has to wait for those whose parents have died, which a shell does.
"$@" </dev/null
