#!/usr/bin/env bash
# image.sh OUT: builds the image without an engine: OUT/oci, an OCI layout, and OUT/oci.tar.
set -euo pipefail
here=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
cd "$here/.."
out=$1

SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
SLUICEGATE_REVISION=${SLUICEGATE_REVISION:-$(git rev-parse --short=12 HEAD)}
export SOURCE_DATE_EPOCH SLUICEGATE_REVISION PYTHONDONTWRITEBYTECODE=1
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
packaging/stage.sh "$out"
packaging/image.py --rootfs "$out/rootfs" --out "$out/oci" --tag "$version" --revision "$SLUICEGATE_REVISION"
