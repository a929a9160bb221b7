#!/usr/bin/env bash
# release.sh OUT: makes everything that a release consists of in OUT, for this processor. The same binary
# and the same certificates of the system give the same bytes. CONTRIBUTING.md says who signs what.
set -euo pipefail
out=$(rm -rf "$1" && mkdir -p "$1" && realpath "$1")
here=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
root=$here/..
stage=$root/target/image

version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$root/Cargo.toml" | head -n 1)
name=sluicegate-$version-$(uname -m)-linux-musl
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$root" log -1 --format=%ct)}
export SOURCE_DATE_EPOCH
"$here/image.sh" "$stage"

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cp "$stage/rootfs/usr/local/bin/sluicegate" "$folder/"
cp "$stage"/rootfs/usr/share/doc/sluicegate/* "$root/README.md" "$root/CHANGELOG.md" "$folder/"
mkdir "$folder/completions"
for shell in bash zsh fish; do "$folder/sluicegate" completions "$shell" >"$folder/completions/sluicegate.$shell"; done
export PYTHONPATH=$here PYTHONDONTWRITEBYTECODE=1
python3 -c 'import archive, pathlib, sys
folder, name, target = pathlib.Path(sys.argv[1]), sys.argv[2], pathlib.Path(sys.argv[3])
target.write_bytes(archive.compress(archive.pack(archive.tree(folder, name + "/"))))' "$folder" "$name" "$out/$name.tar.gz"
gzip -9nc "$stage/sluicegate.debug" >"$out/$name.debug.gz"
cp "$stage/oci.tar" "$out/$name-image.tar"
cp "$stage/rootfs/usr/share/doc/sluicegate/sluicegate.cdx.json" "$out/$name.cdx.json"
"$here/chart.py" "$out"
(cd "$out" && sha256sum -- * >SHA256SUMS && cat SHA256SUMS)
