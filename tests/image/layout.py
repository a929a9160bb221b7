"""Reads an OCI layout as a runtime would: every digest and size is checked, the layers are unpacked in order."""

import gzip
import hashlib
import json
import pathlib
import tarfile


class Layout:
    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        assert json.loads((self.folder / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
        index = json.loads((self.folder / "index.json").read_text())
        [entry] = index["manifests"]
        self.platform = entry["platform"]
        self.manifest = json.loads(self.blob(entry))
        self.image = json.loads(self.blob(self.manifest["config"]))
        self.config = self.image["config"]

    def blob(self, descriptor):
        kind, name = descriptor["digest"].split(":")
        content = (self.folder / "blobs" / kind / name).read_bytes()
        assert hashlib.new(kind, content).hexdigest() == name, f"{name}: another digest"
        assert len(content) == descriptor["size"], f"{name}: another size"
        return content

    def unpack(self, target):
        """The layers' files in a folder; their size, packed and unpacked."""
        packed = unpacked = 0
        for descriptor, diff in zip(self.manifest["layers"], self.image["rootfs"]["diff_ids"], strict=True):
            content = self.blob(descriptor)
            packed += len(content)
            content = gzip.decompress(content)
            assert "sha256:" + hashlib.sha256(content).hexdigest() == diff, "another content"
            file = target.parent / "layer.tar"
            file.write_bytes(content)
            with tarfile.open(file) as tar:
                unpacked += sum(entry.size for entry in tar)
                tar.extractall(target, filter="tar")
            file.unlink()
        return packed, unpacked
