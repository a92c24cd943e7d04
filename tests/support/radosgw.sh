#!/usr/bin/env bash
# A real S3 server for tests: Ceph's RADOS gateway on loopback, objects in memory, the rest in one folder.
#
#   radosgw.sh start FOLDER    start it in a new folder; prints the endpoint when it answers
#   radosgw.sh stop FOLDER     end every daemon that was started there, and remove the folder
#   radosgw.sh run COMMAND...  start it, run a command with SISOM_S3_ENDPOINT set, stop it whatever happens
#
# The account's key is test, its secret canary-d41d8cd98f. Debian's packages: radosgw ceph-mon ceph-osd ceph-common.
# Without root, unpack them and what they need (apt-get download, dpkg -x) into one folder, and name it in CEPH_ROOT.
set -euo pipefail

root=${CEPH_ROOT:-}
bin=$root/usr/bin
lib=$root/usr/lib/$(uname -m)-linux-gnu
if [ -n "$root" ]; then
    export LD_LIBRARY_PATH=$lib:$lib/ceph:$root/lib/$(uname -m)-linux-gnu
    export PYTHONPATH=$root/usr/lib/python3/dist-packages
fi

fail() {
    echo "radosgw.sh: $*" >&2
    exit 1
}

free_ports() {
    /usr/bin/python3 - "$1" <<'PYTHON'
import socket, sys

held = [socket.create_server(("127.0.0.1", 0)) for _ in range(int(sys.argv[1]))]
print(*(one.getsockname()[1] for one in held))
PYTHON
}

start() {
    local folder=$1 mon1 mon2 port id
    for program in ceph-mon ceph-osd ceph ceph-authtool monmaptool radosgw radosgw-admin; do
        [ -x "$bin/$program" ] || fail "no $bin/$program; as root: apt-get install --no-install-recommends" \
            "radosgw ceph-mon ceph-osd ceph-common"
    done
    mkdir "$folder" || fail "the folder must be a new one"
    folder=$(cd "$folder" && pwd)
    mkdir "$folder"/{mon,osd,rgw,out}
    read -r mon1 mon2 port < <(free_ports 3)
    id=$(cat /proc/sys/kernel/random/uuid)
    cat >"$folder/ceph.conf" <<CONF
[global]
fsid = $id
mon host = [v2:127.0.0.1:$mon2,v1:127.0.0.1:$mon1]
public addr = 127.0.0.1
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
keyring = $folder/keyring
run dir = $folder/out
admin socket =
pid file = $folder/out/\$name.pid
log file = $folder/out/\$name.log
crash dir = $folder/out
plugin dir = $lib/ceph
erasure code dir = $lib/ceph/erasure-code
osd class dir = $lib/rados-classes
osd class load list = *
osd class default list = *
osd crush chooseleaf type = 0
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
mon allow pool size one = true
[mon.a]
mon data = $folder/mon
mon initial members = a
[osd.0]
osd data = $folder/osd
osd objectstore = memstore
memstore device bytes = 4294967296
[client.rgw.a]
rgw data = $folder/rgw
rgw frontends = beast endpoint=127.0.0.1:$port tcp_nodelay=1
CONF
    export CEPH_CONF=$folder/ceph.conf
    {
        "$bin/ceph-authtool" --create-keyring "$folder/keyring" --gen-key -n mon. --cap mon 'allow *'
        for name in client.admin client.rgw.a osd.0; do
            "$bin/ceph-authtool" "$folder/keyring" --gen-key -n $name \
                --cap mon 'allow *' --cap osd 'allow *' --cap mgr 'allow *'
        done
        "$bin/monmaptool" --create --fsid "$id" "$folder/monmap" \
            --addv a "[v2:127.0.0.1:$mon2,v1:127.0.0.1:$mon1]"
        "$bin/ceph-mon" -c "$CEPH_CONF" -i a --mkfs --monmap "$folder/monmap" --keyring "$folder/keyring"
        "$bin/ceph-mon" -c "$CEPH_CONF" -i a
        id=$(cat /proc/sys/kernel/random/uuid)
        "$bin/ceph-osd" -c "$CEPH_CONF" -i 0 --mkfs --osd-uuid "$id"
        /usr/bin/python3 "$bin/ceph" -c "$CEPH_CONF" --connect-timeout 60 osd new "$id" 0 </dev/null
        "$bin/ceph-osd" -c "$CEPH_CONF" -i 0
        "$bin/radosgw" -c "$CEPH_CONF" -n client.rgw.a
        timeout 120 "$bin/radosgw-admin" user create --uid=test --display-name=test \
            --access-key=test --secret-key=canary-d41d8cd98f
        for _ in $(seq 120); do
            (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break
            sleep 0.5
        done
        (exec 3<>"/dev/tcp/127.0.0.1/$port")
    } >"$folder/out/start.log" 2>&1 || {
        tail -n 20 "$folder/out/start.log" >&2
        fail "the server does not start; its logs are in $folder/out"
    }
    echo "http://127.0.0.1:$port"
}

stop() {
    local folder pid file waits=0
    [ -d "$1" ] || return 0
    folder=$(cd "$1" && pwd)
    for file in "$folder"/out/{client.rgw.a,osd.0,mon.a}.pid; do
        [ -f "$file" ] || continue
        pid=$(cat "$file")
        # A number may have gone to somebody else by now: ours carries the folder on its command line.
        while grep -qsaF "$folder/ceph.conf" "/proc/$pid/cmdline"; do
            if [ $((waits++)) -lt 100 ]; then kill "$pid" 2>/dev/null || true; else kill -9 "$pid" 2>/dev/null || true; fi
            sleep 0.1
        done
    done
    rm -rf "$folder"
}

run() {
    local place
    place=$(mktemp -d)
    # shellcheck disable=SC2064
    trap "stop '$place/s3'; rm -rf '$place'" EXIT
    trap 'exit 130' INT TERM
    SISOM_S3_ENDPOINT=$(start "$place/s3")
    export SISOM_S3_ENDPOINT
    "$@"
}

case "${1:-}" in
start | stop) [ $# -eq 2 ] || fail "$1 needs a folder" && "$1" "$2" ;;
run) [ $# -ge 2 ] || fail "run needs a command" && shift && run "$@" ;;
*) fail "start FOLDER, stop FOLDER or run COMMAND..." ;;
esac
