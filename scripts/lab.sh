#!/bin/sh
# The lab: three hosts on one machine, with nothing between caller and callee but the gateway.
#
#     caller                     gateway                     callee
#     to-gateway ============ to-caller
#     10.81.1.2/24            10.81.1.1/24
#     fd00:81:1::2/64         fd00:81:1::1/64
#                             to-callee ============ to-gateway
#                             10.81.2.1/24           10.81.2.2/24
#                             fd00:81:2::1/64        fd00:81:2::2/64
#
# Each host is a network namespace PREFIX-caller, PREFIX-gateway, PREFIX-callee; each line a veth pair. The
# gateway does not forward and the outer hosts have no route to each other: a packet that arrives was relayed.
#
#     lab.sh up                  make it, or complete it; a lab that is up is left as it is
#     lab.sh down                end what runs inside and remove it
#     lab.sh exec HOST COMMAND   run COMMAND on HOST (caller, gateway, callee)
#     lab.sh shell [HOST]        a shell there (default: gateway)
#
# LAB_PREFIX (default cw) names the lab; labs with different prefixes live side by side. With LAB_VLANS=yes the
# addresses are in VLANs: one tag toward the caller (802.1Q 100), two toward the callee (802.1ad 200, 802.1Q 300).
# The veths are called cable then on the outer hosts, and the gateway's addresses are on voice-1 and voice-2.
set -eu

prefix=${LAB_PREFIX:-cw} vlans=${LAB_VLANS:-}
caller=$prefix-caller gateway=$prefix-gateway callee=$prefix-callee

up() {
    for host in "$caller" "$gateway" "$callee"; do
        exists "$host" || ip netns add "$host"
        ip -n "$host" link set lo up
    done
    connect "$caller" to-caller 1
    connect "$callee" to-callee 2
    inside "$gateway" sh -c 'echo 0 | tee /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding' \
        >/dev/null
}

# One veth pair between HOST and the gateway, on the networks numbered SIDE.
connect() {
    host=$1 gateway_end=$2 side=$3 host_end=${vlans:+cable}
    host_end=${host_end:-to-gateway}
    ip -n "$gateway" link show "$gateway_end" >/dev/null 2>&1 ||
        ip -n "$host" link add "$host_end" type veth peer name "$gateway_end" netns "$gateway"
    ip -n "$gateway" link set "$gateway_end" up
    ip -n "$host" link set "$host_end" up
    if [ "$vlans" ]; then
        vlan "$gateway" "$gateway_end" "voice-$side" "$side"
        vlan "$host" "$host_end" to-gateway "$side"
        address "$gateway" "voice-$side" "$side" 1
    else
        address "$gateway" "$gateway_end" "$side" 1
    fi
    address "$host" to-gateway "$side" 2
    # A packet that XDP redirects into a veth is dropped unless the other end polls, which it does when it has
    # an XDP program or generic receive offload.
    inside "$host" ethtool -K "$host_end" gro on
    # A veth leaves the UDP checksum of what it sends for later, expecting hardware that will never come. XDP
    # on the gateway would see, and relay, packets whose checksum is not there yet.
    inside "$host" ethtool -K "$host_end" tx off >/dev/null
}

# The device NAME in the VLAN of network SIDE, on top of BELOW.
vlan() {
    below=$2
    # A veth hands tags over beside the packet, where XDP cannot read them, unless it is told to write them.
    inside "$1" ethtool -K "$below" txvlan off tx-vlan-stag-hw-insert off
    if [ "$4" = 2 ]; then
        ip -n "$1" link show outer >/dev/null 2>&1 ||
            ip -n "$1" link add link "$below" name outer type vlan protocol 802.1ad id 200
        ip -n "$1" link set outer up
        below=outer
    fi
    [ "$4" = 1 ] && id=100 || id=300
    ip -n "$1" link show "$3" >/dev/null 2>&1 || ip -n "$1" link add link "$below" name "$3" type vlan id "$id"
}

# nodad: an address that is still being checked for duplicates cannot be bound for the first second.
address() {
    ip -n "$1" address replace "10.81.$3.$4/24" dev "$2"
    ip -n "$1" -6 address replace "fd00:81:$3::$4/64" dev "$2" nodad
    ip -n "$1" link set "$2" up
}

down() {
    for host in "$caller" "$gateway" "$callee"; do
        exists "$host" || continue
        # A namespace lives on, without a name, for as long as a process is in it.
        ip netns pids "$host" | xargs -r kill 2>/dev/null || true
        ip netns delete "$host"
    done
}

exists() {
    [ -e "/run/netns/$1" ]
}

# Not `ip netns exec`: that mounts a fresh /sys, in which pinned maps under /sys/fs/bpf are out of sight.
inside() {
    namespace=$1
    shift
    nsenter --net="/run/netns/$namespace" -- "$@"
}

enter() {
    exists "$prefix-$1" || { echo "lab.sh: no host $prefix-$1; lab.sh up makes it" >&2; exit 1; }
    host=$1
    shift
    exec nsenter --net="/run/netns/$prefix-$host" -- "$@"
}

case ${1:-} in
up) up ;;
down) down ;;
exec)
    [ $# -ge 3 ] || { echo "usage: lab.sh exec HOST COMMAND" >&2; exit 2; }
    shift
    enter "$@"
    ;;
shell) enter "${2:-gateway}" "${SHELL:-/bin/sh}" ;;
*)
    sed -n '/^# /s/^# //p; /^#$/s/.*//p; /^set/q' "$0" >&2
    exit 2
    ;;
esac
