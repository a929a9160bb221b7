#!/usr/bin/env bash
# stage.sh OUT: makes the files of an image in OUT/rootfs: the static binary, certificates, a user, licences, the
# SBOM. OUT/sluicegate.debug has the symbols. BINARY names a binary that is there, in place of a build.
set -euo pipefail
out=$(mkdir -p "$1" && realpath "$1")
here=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
TARGET=${TARGET:-$(uname -m)-unknown-linux-musl}
export TARGET

rm -rf "$out/rootfs"
mkdir -p "$out"/rootfs/{etc/ssl/certs,etc/sluicegate,usr/local/bin,usr/share/doc/sluicegate}
if [[ -n ${BINARY:-} ]]; then
    cp "$BINARY" "$out/sluicegate"
else
    "$here/build.sh" "$out"
fi
root=$out/rootfs
documents=$root/usr/share/doc/sluicegate
cp "$out/sluicegate" "$root/usr/local/bin/sluicegate"
# The certificates of upstreams are checked against these.
cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
echo 'sluicegate:x:65532:65532::/:/sbin/nologin' >"$root/etc/passwd"
echo 'sluicegate:x:65532:' >"$root/etc/group"
cp "$here/../LICENSE" "$documents/LICENSE"
"$here/crates.py" --target "$TARGET" --sbom "$documents/sluicegate.cdx.json" --licences "$documents/THIRD-PARTY-LICENSES.txt"
gzip -9n "$documents/THIRD-PARTY-LICENSES.txt"
chmod -R u=rwX,go=rX "$root"
