#!/usr/bin/env bash
# Gets the servers to compare with, as build/bench/peers/NAME, without installing anything on this system.
#
#   t/bench/peers.sh [smtp-sink] [go-smtp] [aiosmtpd] [nodemailer] [postfix]     all of them when none is named
#
# What the system has, or an earlier run has unpacked under build/peers, is used; the rest is downloaded by apt-get
# and unpacked there; nodemailer's smtp-server comes from npm, into build/peers/nodemailer. Each result takes
# --listen HOST:PORT, and all but smtp-sink --tls-cert FILE --tls-key FILE --tls-port HOST:PORT (implicit TLS). But
# postfix is only unpacked, as build/peers/postfix, for t/bench/relay and t/bench/tls to start. One that cannot be had is reported and makes the exit status 1; the others are there all the
# same.
set -u
cd "$(dirname "$0")/../.." || exit 2
top=$PWD
bin=$top/build/bench/peers
mkdir -p "$bin" build/peers

# fetch ROOT PACKAGE...: unpacks the packages as build/peers/ROOT.
fetch() {
    root=$top/build/peers/$1 part=$top/build/peers/.$1.part
    shift
    command -v apt-get >/dev/null && command -v dpkg >/dev/null || { echo "no apt-get and dpkg here" >&2; return 1; }
    rm -rf "$part"
    mkdir -p "$part/debs"
    (
        cd "$part/debs" || exit 1
        # As root, apt would hand the download to a user who may not write here.
        get() { apt-get -qq -o APT::Sandbox::User=root download "$@"; }
        get "$@" || { [ "$(id -u)" = 0 ] && apt-get -qq update && get "$@"; }
    ) || { rm -rf "$part"; return 1; }
    for deb in "$part"/debs/*.deb; do
        dpkg -x "$deb" "$part" || return 1
    done
    rm -rf "$part/debs" "$root"
    mv "$part" "$root"
}

# first FILE...: says the first, if it is there; for patterns.
first() {
    [ -e "$1" ] && echo "$1"
}

# The folders of an unpacked ROOT that hold shared libraries, as LD_LIBRARY_PATH has them.
libraries_of() {
    for folder in "$1"/usr/lib/postfix "$1"/usr/lib/*-linux-gnu; do
        first "$folder"
    done | paste -sd:
}

# wrapper NAME: makes standard input the executable NAME.
wrapper() {
    cat >"$bin/$1.part" && chmod +x "$bin/$1.part" && mv "$bin/$1.part" "$bin/$1"
}

smtp_sink() {
    sink=$(first "$top"/build/peers/*/usr/sbin/smtp-sink)
    [ -n "$sink" ] || sink=$(PATH=$PATH:/usr/sbin command -v smtp-sink)
    if [ -z "$sink" ]; then
        fetch smtp-sink postfix || return 1
        sink=$top/build/peers/smtp-sink/usr/sbin/smtp-sink
    fi
    root=${sink%/usr/sbin/smtp-sink}
    libraries=$(libraries_of "$root")
    if LD_LIBRARY_PATH=$libraries ldd "$sink" | grep -q 'not found'; then
        fetch smtp-sink postfix libdb5.3 libicu72 libnsl2 libtirpc3 || return 1
        root=$top/build/peers/smtp-sink
        sink=$root/usr/sbin/smtp-sink
        libraries=$(libraries_of "$root")
    fi
    # Its default of 256 connections would keep the others waiting; 4096 may wait to be accepted.
    wrapper smtp-sink <<END
#!/bin/sh
[ "\$(id -u)" = 0 ] && set -- "\$@" -u nobody
address=\$2
shift 2
LD_LIBRARY_PATH='$libraries' exec '$sink' "\$@" -m 15000 "\$address" 4096
END
}

go_smtp() {
    [ "$bin/go-smtp" -nt t/bench/peers/go-smtp/main.go ] && return
    goroot='' library=/usr/share/gocode go=$(command -v go)
    if [ -z "$go" ] || [ ! -d "$library/src/github.com/emersion/go-smtp" ]; then
        version=$(apt-cache depends golang-go | sed -n 's/.*Depends: \(golang-[0-9.]*\)-go$/\1/p')
        [ -n "$version" ] || { echo "no golang-go among the packages: apt-get update?" >&2; return 1; }
        fetch go "$version-go" "$version-src" golang-github-emersion-go-smtp-dev \
            golang-github-emersion-go-sasl-dev || return 1
        goroot=$(first "$top"/build/peers/go/usr/lib/go-[0-9]*)
        go=$goroot/bin/go
        library=$top/build/peers/go/usr/share/gocode
    fi
    GOROOT=$goroot GO111MODULE=off GOPATH=$library GOCACHE=$top/build/peers/go-cache GOFLAGS='' CGO_ENABLED=0 \
        "$go" build -o "$bin/go-smtp" t/bench/peers/go-smtp/main.go
    built=$?
    # Half a gigabyte that nobody needs again.
    rm -rf build/peers/go build/peers/go-cache
    return "$built"
}

aiosmtpd() {
    python=/usr/bin/python3
    [ -x "$python" ] || python=$(command -v python3) || return 1
    modules=$top/build/peers/aiosmtpd/usr/lib/python3/dist-packages
    if ! PYTHONPATH=$modules "$python" -c 'import aiosmtpd.smtp' 2>/dev/null; then
        fetch aiosmtpd python3-aiosmtpd python3-attr python3-public python3-typing-extensions || return 1
        PYTHONPATH=$modules "$python" -c 'import aiosmtpd.smtp' || return 1
    fi
    wrapper aiosmtpd <<END
#!/bin/sh
PYTHONPATH='$modules' exec $python '$top/t/bench/peers/aiosmtpd_sink.py' "\$@"
END
}

# nodemailer's smtp-server, of one version, so that figures stay comparable.
nodemailer() {
    version=3.21.6 home=$top/build/peers/nodemailer
    node=$(command -v node) && command -v npm >/dev/null || { echo "no node and npm here" >&2; return 1; }
    if ! grep -qs "\"version\": \"$version\"" "$home/node_modules/smtp-server/package.json"; then
        rm -rf "$home" && mkdir -p "$home" || return 1
        npm install --prefix "$home" --silent --no-audit --no-fund --ignore-scripts "smtp-server@$version" >&2 || return 1
    fi
    wrapper nodemailer <<END
#!/bin/sh
NODE_PATH='$home/node_modules' exec '$node' '$top/t/bench/peers/smtp_server.js' "\$@"
END
}

missing=0
[ $# -gt 0 ] || set -- smtp-sink go-smtp aiosmtpd nodemailer postfix
for name; do
    case $name in
    smtp-sink) smtp_sink ;;
    go-smtp) go_smtp ;;
    aiosmtpd) aiosmtpd ;;
    nodemailer) nodemailer ;;
    postfix) t/interop/peers postfix ;;
    *) echo "peers.sh: no such peer: $name" >&2; exit 2 ;;
    esac || {
        echo "MISSING: $name cannot be had here" >&2
        missing=1
    }
done
exit $missing
