"""Writes the manifests for kustomize: `make manifests`."""

import chart

if __name__ == "__main__":
    for folder in chart.FOLDERS:
        target = folder / "manifests.yaml"
        target.write_text(chart.manifests(folder))
        print(f"manifests: wrote {target.relative_to(chart.ROOT)}")
