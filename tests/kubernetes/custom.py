"""The custom resources that the chart writes, as strict schemas of the fields that it uses: Kubernetes' own schemas
do not have them. The fields are those of the resources' published definitions."""

import jsonschema


def _closed(required, **properties):
    return {"type": "object", "additionalProperties": False, "required": required, "properties": properties}


TEXT = {"type": "string", "minLength": 1}
COUNT = {"type": "integer", "minimum": 1}
DURATION = {"type": "string", "pattern": "^([0-9]{1,5}(h|m|s|ms)){1,4}$"}
SELECTOR = _closed(["matchLabels"], matchLabels={"type": "object", "minProperties": 1})
ENDPOINTS = {
    "type": "array",
    "minItems": 1,
    "items": _closed(["port"], port=TEXT, path=TEXT, interval=DURATION),
}
SCALING = {
    "type": "object",
    "additionalProperties": _closed(
        ["policies"],
        stabilizationWindowSeconds={"type": "integer", "minimum": 0, "maximum": 3600},
        policies={"type": "array", "minItems": 1},
    ),
}
TRIGGER = _closed(
    ["type", "metadata"],
    type={"const": "prometheus"},
    metricType={"enum": ["AverageValue", "Value"]},
    # KEDA reads every value of a trigger as text.
    metadata=_closed(
        ["serverAddress", "query", "threshold"], serverAddress=TEXT, query=TEXT, threshold=TEXT, ignoreNullValues=TEXT
    ),
)
ROUTE_RULE = _closed(
    ["backendRefs"],
    matches={"type": "array"},
    backendRefs={"type": "array", "minItems": 1, "items": _closed(["name", "port"], name=TEXT, port=COUNT)},
    timeouts=_closed([], request=DURATION, backendRequest=DURATION),
)
SPECS = {
    ("monitoring.coreos.com/v1", "ServiceMonitor"): _closed(["selector", "endpoints"], selector=SELECTOR, endpoints=ENDPOINTS),
    ("monitoring.coreos.com/v1", "PodMonitor"): _closed(
        ["selector", "podMetricsEndpoints"], selector=SELECTOR, podMetricsEndpoints=ENDPOINTS
    ),
    ("monitoring.coreos.com/v1", "PrometheusRule"): _closed(["groups"], groups={"type": "array", "minItems": 1}),
    ("keda.sh/v1alpha1", "ScaledObject"): _closed(
        ["scaleTargetRef", "triggers"],
        scaleTargetRef=_closed(["name"], apiVersion=TEXT, kind=TEXT, name=TEXT),
        minReplicaCount=COUNT,
        maxReplicaCount=COUNT,
        advanced=_closed([], horizontalPodAutoscalerConfig=_closed([], behavior=SCALING)),
        triggers={"type": "array", "minItems": 1, "items": TRIGGER},
    ),
    ("gateway.networking.k8s.io/v1", "HTTPRoute"): _closed(
        ["parentRefs", "rules"],
        parentRefs={"type": "array", "minItems": 1, "items": _closed(["name"], name=TEXT, namespace=TEXT, sectionName=TEXT)},
        hostnames={"type": "array", "items": TEXT},
        rules={"type": "array", "minItems": 1, "items": ROUTE_RULE},
    ),
}


def is_custom(found):
    return (found["apiVersion"], found["kind"]) in SPECS


def validate(found):
    """Raises jsonschema.ValidationError."""
    spec = SPECS[(found["apiVersion"], found["kind"])]
    metadata = _closed(["name"], name=TEXT, labels={"type": "object"}, annotations={"type": "object"})
    jsonschema.validate(found, _closed(["spec"], apiVersion=TEXT, kind=TEXT, metadata=metadata, spec=spec))
