"""Values that users set: every toggle on, one by one and together, and values that must be refused."""

import copy

HASH = "0" * 64
DIGEST = "sha256:" + "0" * 64

CONFIG = {
    "existingSecret": "keys",
    "config": {
        "upstreams": {"openai": {"api_key": "${file:/run/secrets/sluicegate/OPENAI_API_KEY}"}},
        "models": {"fast": {"targets": [{"upstream": "openai", "model": "gpt-4o-mini"}]}},
        "keys": [{"name": "web-app", "sha256": HASH}],
    },
}
CONFIG_TEXT = f"""
# A file, as it is.
upstreams: {{ openai: {{ api_key: "${{OPENAI_API_KEY:-}}$${{NOT_ONE}}" }} }}
models: {{ fast: {{ continue: on, targets: [ {{ upstream: openai, model: gpt-4o-mini }} ] }} }}
keys: [ {{ name: web-app, sha256: "{HASH}" }} ]
limits: {{ streams: 1000000, connections: {{ total: 1000000 }} }}
"""


def with_config(**values):
    return copy.deepcopy(CONFIG) | values


ROUTE = {"enabled": True, "parentRefs": [{"name": "public", "namespace": "gateways"}], "hostnames": ["llm.example"]}
INGRESS = {"enabled": True, "host": "llm.example", "className": "nginx", "tlsSecret": "llm-tls"}
KEDA = {"enabled": True, "prometheusAddress": "http://prometheus.monitoring:9090"}
CLIENTS = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress"}}}]
AFFINITY = {
    "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]}]
        }
    }
}

VARIATIONS = {
    "the demo": {},
    "a config and a Secret": CONFIG,
    "a config as text": {"config": CONFIG_TEXT},
    "an open config without a Secret": {"config": {"open": True, "upstreams": {"ollama": {}}}},
    "the Secret as environment": {
        "existingSecret": "keys",
        "secretAsEnv": True,
        "config": CONFIG_TEXT.replace(":-}", "}"),
    },
    "variables of its own": {
        "config": CONFIG_TEXT.replace(":-}", "}"),
        "extraEnv": [{"name": "OPENAI_API_KEY", "valueFrom": {"secretKeyRef": {"name": "vendor", "key": "openai"}}}],
        "extraEnvFrom": [{"configMapRef": {"name": "settings", "optional": True}}],
    },
    "an image by digest": {"image": {"repository": "registry.example/ai/sluicegate", "digest": DIGEST}},
    "an image of a private registry": {"image": {"tag": "1", "pullPolicy": "Always"}, "imagePullSecrets": [{"name": "pull"}]},
    "other names": {"nameOverride": "front", "fullnameOverride": "a-very-long-name-of-a-release-that-is-cut-somewhere-in-the-middle"},
    "labels and annotations": {
        "commonLabels": {"team": "ai"},
        "podLabels": {"mesh": "on", "app.kubernetes.io/name": "not-this"},
        "podAnnotations": {"note": "yes"},
        "service": {"type": "LoadBalancer", "port": 443, "annotations": {"internal": "true"}, "appProtocol": "kubernetes.io/h2c"},
    },
    "pods rolled by the config": with_config(rollOnConfigChange=True),
    "pods rolled by the config, with annotations": with_config(rollOnConfigChange=True, podAnnotations={"a": "b"}),
    "IPv6 and the demo": {"bindAddress": "[::]"},
    "no resources": {"resources": None},
    "no limits": {"resources": {"limits": None}, "config": None},
    "IPv6": with_config(bindAddress="[::]"),
    "other ports": with_config(ports={"http": 8443, "admin": 9443}, service={"port": 8443}),
    "a long drain": with_config(preStopSeconds=30, drainSeconds=3600),
    "no drain": with_config(drainSeconds=0),
    "TLS": with_config(tls={"existingSecret": "tls"}, ingress=INGRESS),
    "volumes of its own": with_config(
        extraVolumes=[{"name": "ca", "configMap": {"name": "ca"}}],
        extraVolumeMounts=[{"name": "ca", "mountPath": "/etc/partner", "readOnly": True}],
    ),
    "volumes of the demo": {
        "extraVolumes": [{"name": "ca", "configMap": {"name": "ca"}}],
        "extraVolumeMounts": [{"name": "ca", "mountPath": "/etc/partner", "readOnly": True}],
    },
    "placement": {
        "affinity": AFFINITY,
        "nodeSelector": {"kubernetes.io/arch": "amd64"},
        "tolerations": [{"key": "ai", "operator": "Exists", "effect": "NoSchedule"}],
        "priorityClassName": "high",
        "topologySpreadConstraints": [],
    },
    "a service account": {"serviceAccount": {"create": True, "annotations": {"cloud/role": "bedrock"}}},
    "a service account that exists": {"serviceAccount": {"name": "bedrock"}},
    "no replicas": {"replicaCount": 0, "podDisruptionBudget": {"enabled": False}},
    "a budget in percent": {"podDisruptionBudget": {"maxUnavailable": "25%"}, "updateStrategy": {"maxUnavailable": 1, "maxSurge": 0}},
    "scaled by processor time": {"autoscaling": {"enabled": True}},
    "scaled by open streams": {"autoscaling": {"enabled": True, "openStreams": 700, "minReplicas": 3, "maxReplicas": 3}},
    "scaled by KEDA": {"keda": KEDA},
    "network policy": with_config(networkPolicy={"enabled": True}),
    "a narrow network policy": with_config(
        networkPolicy={
            "enabled": True,
            "clients": CLIENTS,
            "monitoring": [],
            "upstreamPorts": [],
            "extraEgress": [{"to": [{"podSelector": {"matchLabels": {"app": "vllm"}}}], "ports": [{"port": 8000, "protocol": "TCP"}]}],
        }
    ),
    "a ServiceMonitor": {"monitoring": {"serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}}}},
    "a PodMonitor": {"monitoring": {"podMonitor": {"enabled": True, "interval": "30s"}}},
    "rules and a dashboard": {"monitoring": {"rules": {"enabled": True, "labels": {"release": "prometheus"}}, "dashboard": {"enabled": True}}},
    "an HTTPRoute": {"httpRoute": ROUTE | {"annotations": {"a": "b"}}},
    "an Ingress of nginx": {"ingress": INGRESS | {"annotations": {"nginx.ingress.kubernetes.io/proxy-body-size": "50m"}}},
    "an Ingress of HAProxy": {"ingress": {"enabled": True, "controller": "haproxy"}},
    "an Ingress of another": {"ingress": {"enabled": True, "controller": "none"}},
    "Valkey": with_config(valkey={"enabled": True, "maxmemory": "4gb"}),
    "a shared state of its own": with_config(
        config=CONFIG["config"] | {"state": "redis://:${file:/run/secrets/sluicegate/REDIS}@redis.data:6379/0"}
    ),
    "a test that asks": with_config(test={"model": "fast", "keyEntry": "TEST_KEY"}),
    "all together": with_config(
        secretAsEnv=True,
        commonLabels={"team": "ai"},
        podAnnotations={"note": "yes"},
        rollOnConfigChange=True,
        tls={"existingSecret": "tls"},
        serviceAccount={"create": True},
        autoscaling={"enabled": True, "openStreams": 700},
        networkPolicy={"enabled": True, "clients": CLIENTS},
        monitoring={"serviceMonitor": {"enabled": True}, "rules": {"enabled": True}, "dashboard": {"enabled": True}},
        httpRoute=ROUTE,
        ingress=INGRESS,
        valkey={"enabled": True},
        test={"model": "fast", "keyEntry": "TEST_KEY"},
    ),
    "under a chart that sets globals": {"global": {"imageRegistry": "registry.example"}},
}

# The values, and words of the message that refuses them.
REFUSALS = {
    "an unknown name": ({"replicas": 3}, "replicas"),
    "an unknown name inside": ({"image": {"name": "x"}}, "name"),
    "a number as text": ({"replicaCount": "two"}, "replicaCount"),
    "both autoscalers": ({"autoscaling": {"enabled": True}, "keda": KEDA}, "not"),
    "KEDA without Prometheus": ({"keda": {"enabled": True}}, "keda.prometheusAddress"),
    "more replicas at least than at most": ({"autoscaling": {"enabled": True, "minReplicas": 20}}, "maxReplicas"),
    "both monitors": (
        {"monitoring": {"serviceMonitor": {"enabled": True}, "podMonitor": {"enabled": True}}},
        "scraped twice",
    ),
    "a config without keys": ({"config": {"upstreams": {"ollama": {}}}}, "config.keys"),
    "a config that sets the address": (with_config(config={"listen": "0.0.0.0:80", "open": True}), "config.listen"),
    "a config that sets the drain": (with_config(config={"drain": "5s", "open": True}), "drainSeconds"),
    "a config that is not YAML": ({"config": "a: [b"}, "not valid YAML"),
    "a hash that is a number": ({"config": f"keys: [ {{ name: web-app, sha256: {HASH} }} ]"}, "quotes"),
    "a variable that is not set": (with_config(config={"open": True, "upstreams": {"openai": {"api_key": "${OPENAI_API_KEY}"}}}), "secretAsEnv"),
    "environment of no Secret": ({"secretAsEnv": True, "config": {"open": True, "state": "${STATE}"}}, "${STATE}"),
    "one port for both": ({"ports": {"admin": 8080}}, "must differ"),
    "a share of nothing": ({"autoscaling": {"enabled": True}, "resources": {"requests": {"cpu": None}}}, "requests.cpu"),
    "a file without a Secret": ({"config": CONFIG["config"]}, "existingSecret"),
    "a variable after a dollar sign": (with_config(config={"open": True, "hosts": ["$$$${A}"], "state": "${B}"}), "${B}"),
    "Valkey without a Secret": ({"config": {"open": True}, "valkey": {"enabled": True}}, "existingSecret"),
    "two shared states": (with_config(config=CONFIG["config"] | {"state": "redis://a"}, valkey={"enabled": True}), "config.state"),
    "TLS of the demo": ({"tls": {"existingSecret": "tls"}}, "config"),
    "an HTTPRoute of no Gateway": ({"httpRoute": {"enabled": True}}, "parentRefs"),
    "a certificate without a name": ({"ingress": {"enabled": True, "tlsSecret": "tls"}}, "ingress.host"),
    "a tag as a digest": ({"image": {"digest": "latest"}}, "digest"),
    "a privileged port": ({"ports": {"http": 80}}, "1,024"),
    "no time before the drain": ({"preStopSeconds": 0}, "preStopSeconds"),
    "a budget of nothing": ({"podDisruptionBudget": {"maxUnavailable": 0}}, "maxUnavailable"),
}
