"""The chart as the manifests that Kubernetes would get for one release in a namespace."""

from __future__ import annotations

from tests.deploy.chart.rendering import CHART, Values, helm, yaml
from tests.deploy.pods.strict import Manifest


def rendered(values: Values, release: str = "shop", namespace: str = "shop") -> list[Manifest]:
    """Every manifest, in the order of the templates' names."""
    with helm.Chart.load(CHART) as chart:
        texts = chart.render(values, name=release, namespace=namespace)
    return [
        found
        for path, text in sorted(texts.items())
        if path.endswith(".yaml")
        for found in yaml.safe_load_all(text)
        if found
    ]
