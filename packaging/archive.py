"""Tar files whose bytes depend on their contents alone: owners are root, times come from SOURCE_DATE_EPOCH, and the
order is that of the names."""

import gzip
import io
import os
import tarfile

EPOCH = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))


def pack(entries):
    """A tar file. The entries are pairs of a name in it and a path; a link's target is packed in its place."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT, dereference=True) as tar:
        for name, path in sorted(entries):
            entry = tar.gettarinfo(path, arcname=name)
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = ""
            entry.mtime = EPOCH
            entry.mode = 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644
            if entry.isfile():
                with open(path, "rb") as content:
                    tar.addfile(entry, content)
            else:
                tar.addfile(entry)
    return buffer.getvalue()


def compress(content):
    return gzip.compress(content, compresslevel=9, mtime=0)


def tree(folder, prefix=""):
    """Everything in a folder, for `pack`."""
    return [(prefix + str(path.relative_to(folder)), path) for path in folder.rglob("*")]
