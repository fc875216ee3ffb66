#!/bin/sh
# Replays an RTP capture over the lab and counts what arrives: caller → gateway → callee.
#
#     replay-pcap.sh [-r RELAY] [-n LOOPS] [-x SPEED] [CAPTURE]
#
#     -r RELAY   what the gateway does: `forward` (the kernel's own forwarding, the default), or `none` when
#                something else relays there already, such as a daemon with flows for these ports
#     -n LOOPS   how often to replay the capture (default 1)
#     -x SPEED   times its own pace (default 1)
#     CAPTURE    classic pcap of Ethernet frames (default: the recording that `cargo xtask demo` plays)
#
# The capture's addresses are replaced by those of the lab: it comes from the caller, and goes to the callee when
# the kernel forwards, or to the gateway when something else relays; ports stay. The callee's own UDP counters
# tell what arrived. Needs root, tcpreplay and iproute2. Everything that it makes is gone when it ends; the exit
# code is 0 when nothing was lost.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
relay=forward loops=1 speed=1
while getopts r:n:x: option; do
    case $option in
    r) relay=$OPTARG ;;
    n) loops=$OPTARG ;;
    x) speed=$OPTARG ;;
    *) sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2 && exit 2 ;;
    esac
done
shift $((OPTIND - 1))
target=${CARGO_TARGET_DIR:-$here/../target}
capture=${1:-$target/xtask/demo/speech.pcap}
[ -r "$capture" ] || { echo "replay-pcap.sh: no capture $capture; cargo xtask demo makes one" >&2; exit 1; }
for tool in tcpreplay tcprewrite; do
    command -v $tool >/dev/null || { echo "replay-pcap.sh: $tool is missing: apt-get install tcpreplay" >&2; exit 1; }
done

# With `none` the lab of the one who relays is used, and left as it is.
if [ "$relay" = none ]; then
    lab=${LAB_PREFIX:-cw} destination=10.81.1.1 made=no
else
    lab=replay$$ destination=10.81.2.2 made=yes
fi
export LAB_PREFIX="$lab"
rewritten=$(mktemp)
clean_up() {
    rm -f "$rewritten"
    [ $made = no ] || "$here/lab.sh" down
}
trap clean_up EXIT
trap 'exit 1' INT TERM

on() {
    host=$1
    shift
    "$here/lab.sh" exec "$host" "$@"
}

# HOST INTERFACE: its MAC address.
mac() {
    ip -n "$lab-$1" -o link show "$2" | sed 's/.*link\/ether \([0-9a-f:]*\).*/\1/'
}

# UDP datagrams that reached the callee, whether or not a program listens for them (InDatagrams and NoPorts).
arrived() {
    on callee awk '/^Udp: [0-9]/ { print $2 + $3 }' /proc/net/snmp
}

[ $made = no ] || "$here/lab.sh" up
if [ "$relay" = forward ]; then
    on gateway sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward'
    on callee ip route replace 10.81.1.0/24 via 10.81.2.1
fi

tcprewrite --infile="$capture" --outfile="$rewritten" --fixcsum \
    --srcipmap="0.0.0.0/0:10.81.1.2/32" --dstipmap="0.0.0.0/0:$destination/32" \
    --enet-smac="$(mac caller to-gateway)" --enet-dmac="$(mac gateway to-caller)"

before=$(arrived)
sent=$(on caller tcpreplay --intf1=to-gateway --loop="$loops" --multiplier="$speed" "$rewritten" 2>&1 |
    awk '/Successful packets/ { print $3 }')
# What is still on its way.
sleep 0.5
count=$(($(arrived) - before))

echo "sent by the caller     ${sent:-0}"
echo "arrived at the callee  $count"
echo "lost                   $((${sent:-0} - count))"
[ "$count" -eq "${sent:-0}" ]
