#!/usr/bin/env bash
# Gets the servers to compare with, as build/bench/peers/NAME, without installing anything on this system.
#
#   t/bench/peers.sh [smtp-sink] [go-smtp] [aiosmtpd] [nodemailer] [haraka] [net-smtp-server]
#                    [postfix] [opensmtpd] [exim] [postgresql]
#
# All of them when none is named.
#
# What the system has, or an earlier run has unpacked under build/peers, is used; the rest is downloaded by apt-get
# and unpacked there; nodemailer's smtp-server and Haraka come from npm, into build/peers/NAME. Each result takes
# --listen HOST:PORT, and all but smtp-sink and net-smtp-server --tls-cert FILE --tls-key FILE --tls-port HOST:PORT
# (implicit TLS); NAME.version beside it says what it is. But postfix, opensmtpd, exim and postgresql are only unpacked, as
# build/peers/NAME, for t/bench/*.py to start. One that cannot be had is reported and makes the exit status 1; the others
# are there all the same.
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
    (cd "$part/debs" && ls) >"$part/.complete"
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

# version NAME TEXT
version() {
    echo "$2" >"$bin/$1.version"
}

# The version of a package, by the name of its file in a folder, or as the system has it.
package_version() {
    found=$(cat "$top"/build/peers/*/.complete 2>/dev/null | sed -n "s/^$1_\\([^_]*\\)_.*/\\1/p" | head -n 1)
    [ -n "$found" ] || found=$(dpkg-query -W -f '${Version}' "$1" 2>/dev/null)
    [ -n "$found" ] || found=$(apt-cache policy "$1" | sed -n 's/^ *Candidate: //p')
    echo "$found"
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
    version smtp-sink "Postfix $(package_version postfix)"
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
    [ "$bin/go-smtp" -nt t/bench/peers/go-smtp/main.go ] && [ -e "$bin/go-smtp.version" ] && return
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
    version go-smtp "$(package_version golang-github-emersion-go-smtp-dev), $("$go" version | cut -d' ' -f3)"
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
    version aiosmtpd "$(PYTHONPATH=$modules "$python" -c 'import aiosmtpd.smtp, sys; print(f"{aiosmtpd.smtp.__version__}, Python {sys.version.split()[0]}")')"
    wrapper aiosmtpd <<END
#!/bin/sh
PYTHONPATH='$modules' exec $python '$top/t/bench/peers/aiosmtpd_sink.py' "\$@"
END
}

# npm_package NAME PACKAGE VERSION: from npm into build/peers/NAME, of one version, so that figures stay comparable.
npm_package() {
    home=$top/build/peers/$1
    node=$(command -v node) && command -v npm >/dev/null || { echo "no node and npm here" >&2; return 1; }
    if ! grep -qs "\"version\": \"$3\"" "$home/node_modules/$2/package.json"; then
        rm -rf "$home" && mkdir -p "$home" || return 1
        npm install --prefix "$home" --silent --no-audit --no-fund --ignore-scripts "$2@$3" >&2 || return 1
    fi
    version "$1" "$3, node $("$node" --version)"
}

nodemailer() {
    npm_package nodemailer smtp-server 3.21.6 || return 1
    wrapper nodemailer <<END
#!/bin/sh
NODE_PATH='$home/node_modules' exec '$node' '$top/t/bench/peers/smtp_server.js' "\$@"
END
}

# It wants a folder of its own for its settings; each process gets one.
haraka() {
    npm_package haraka Haraka 3.3.4 || return 1
    wrapper haraka <<END
#!/bin/sh
export HARAKA='$top/build/bench'/haraka.\$\$ NODE_PATH='$home/node_modules'
'$node' '$top/t/bench/peers/haraka.js' --dir "\$HARAKA" "\$@" && exec '$node' '$home/node_modules/Haraka/haraka.js'
END
}

net_smtp_server() {
    perl=$(command -v perl) || { echo "no perl here" >&2; return 1; }
    modules=$top/build/peers/net-smtp-server/usr/share/perl5
    if ! PERL5LIB=$modules "$perl" -MNet::SMTP::Server -e 1 2>/dev/null; then
        fetch net-smtp-server libnet-smtp-server-perl || return 1
    fi
    version net-smtp-server "$(package_version libnet-smtp-server-perl), $("$perl" -e 'printf "Perl %vd", $^V')"
    wrapper net-smtp-server <<END
#!/bin/sh
PERL5LIB='$modules' exec '$perl' '$top/t/bench/peers/net_smtp_server.pl' "\$@"
END
}

missing=0
[ $# -gt 0 ] || set -- smtp-sink go-smtp aiosmtpd nodemailer haraka net-smtp-server postfix opensmtpd exim postgresql
for name; do
    case $name in
    smtp-sink) smtp_sink ;;
    go-smtp) go_smtp ;;
    aiosmtpd) aiosmtpd ;;
    nodemailer) nodemailer ;;
    haraka) haraka ;;
    net-smtp-server) net_smtp_server ;;
    postfix | opensmtpd | exim | postgresql) t/interop/peers "$name" ;;
    *) echo "peers.sh: no such peer: $name" >&2; exit 2 ;;
    esac || {
        echo "MISSING: $name cannot be had here" >&2
        missing=1
    }
done
exit $missing
