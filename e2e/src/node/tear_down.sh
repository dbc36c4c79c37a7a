# Removes what a node's world leaves behind: its cgroups and its folder. Every process of it is being killed or dead.
# $1: the folder, whose name is also that of the cgroups.
name=${1##*/}

# remove: the folder last, since it is what says that there is something to remove.
remove() {
    for group in /sys/fs/cgroup/"$name" /sys/fs/cgroup/*/"$name"; do
        [ ! -d "$group" ] || find "$group" -depth -type d -exec rmdir {} + || return
    done
    rm -rf "$1"
}

for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19; do
    remove "$1" 2>/dev/null && exit
    sleep 0.2
done
remove "$1"
