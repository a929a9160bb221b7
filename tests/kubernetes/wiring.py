"""Do the objects of one rendering fit together? Every function takes all objects and yields what is wrong."""

import re

import yaml

GRACE = 10  # Seconds in which the last streams and connections end after the drain.
NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")


def pods(objects):
    """The labels and the spec of every pod that an object makes."""
    for found in objects:
        if found["kind"] == "Deployment":
            template = found["spec"]["template"]
            yield template["metadata"]["labels"], template["spec"]
        elif found["kind"] == "Pod":
            yield found["metadata"]["labels"], found["spec"]


def _of_kind(objects, kind):
    return [found for found in objects if found["kind"] == kind]


def _matches(selector, labels):
    return all(labels.get(key) == value for key, value in selector.items())


def _selectors(found):
    spec, kind = found.get("spec", {}), found["kind"]
    if kind == "Service":
        yield spec["selector"]
    elif kind in ("Deployment", "PodDisruptionBudget", "PodMonitor"):
        yield spec["selector"]["matchLabels"]
    elif kind == "NetworkPolicy":
        yield spec["podSelector"]["matchLabels"]


def names(objects):
    seen = set()
    for found in objects:
        name, key = found["metadata"]["name"], (found["kind"], found["metadata"]["name"])
        if key in seen:
            yield f"{key} is there twice"
        seen.add(key)
        if len(name) > 63 or not NAME.fullmatch(name):
            yield f"{key}: not a name"
        for label, value in found["metadata"].get("labels", {}).items():
            if not isinstance(value, str) or len(value) > 63:
                yield f"{key}: label {label} is {value!r}"


def selectors(objects):
    for found in objects:
        for selector in _selectors(found):
            matching = [labels for labels, _ in pods(objects) if _matches(selector, labels)]
            if len(matching) != 1:
                yield f"{found['kind']} {found['metadata']['name']} selects {len(matching)} kinds of pods"
    services = [found["metadata"]["labels"] for found in _of_kind(objects, "Service")]
    for monitor in _of_kind(objects, "ServiceMonitor"):
        if sum(_matches(monitor["spec"]["selector"]["matchLabels"], labels) for labels in services) != 1:
            yield "the ServiceMonitor does not select one Service"


def _ports(spec):
    return {port["name"]: port["containerPort"] for container in spec["containers"] for port in container.get("ports", [])}


def ports(objects):
    for service in _of_kind(objects, "Service"):
        target = next(spec for labels, spec in pods(objects) if _matches(service["spec"]["selector"], labels))
        for port in service["spec"]["ports"]:
            if port["targetPort"] not in _ports(target):
                yield f"Service {service['metadata']['name']}: no port {port['targetPort']}"
    for _, spec in pods(objects):
        for container in spec["containers"]:
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                how = container.get(probe, {})
                port = (how.get("httpGet") or how.get("tcpSocket") or {}).get("port")
                if port is not None and port not in _ports(spec):
                    yield f"{container['name']}: {probe} asks port {port}"


def backends(objects):
    services = {found["metadata"]["name"]: found["spec"]["ports"] for found in _of_kind(objects, "Service")}
    for route in _of_kind(objects, "HTTPRoute"):
        for rule in route["spec"]["rules"]:
            for backend in rule["backendRefs"]:
                if backend["port"] not in [port["port"] for port in services[backend["name"]]]:
                    yield f"HTTPRoute: {backend}"
            if set(rule["timeouts"].values()) != {"0s"}:
                yield "HTTPRoute: a deadline would cut streams"
    for ingress in _of_kind(objects, "Ingress"):
        for rule in ingress["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                backend = path["backend"]["service"]
                if backend["port"]["name"] not in [port["name"] for port in services[backend["name"]]]:
                    yield f"Ingress: {backend}"


def volumes(objects):
    for labels, spec in pods(objects):
        there = [volume["name"] for volume in spec.get("volumes", [])]
        mounted = [mount["name"] for c in spec["containers"] for mount in c.get("volumeMounts", [])]
        if sorted(there) != sorted(set(mounted)):
            yield f"volumes {there}, mounted {mounted}"
        for mount in (mount for c in spec["containers"] for mount in c.get("volumeMounts", [])):
            if "subPath" in mount:
                yield f"{mount}: a file that is mounted by subPath never changes"
        for volume in spec.get("volumes", []):
            if "secret" in volume and volume["secret"].get("defaultMode") != 0o400:
                yield f"volume {volume['name']}: others could read it"


def security(objects):
    """The profile `restricted` of the Pod Security Standards, and a root that cannot be written."""
    for labels, spec in pods(objects):
        context = spec["securityContext"]
        if not (context["runAsNonRoot"] and context["runAsUser"] and context["seccompProfile"]["type"] == "RuntimeDefault"):
            yield f"securityContext {context}"
        if spec["automountServiceAccountToken"] is not False or spec.get("hostNetwork"):
            yield f"{labels}: a token or the node's network"
        for container in spec["containers"]:
            own = container["securityContext"]
            if own != {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}:
                yield f"{container['name']}: {own}"
            # Users may take them away; Checkov asks for the limit of memory.
            resources = container["resources"]
            if resources and not {"cpu", "memory"} <= resources["requests"].keys():
                yield f"{container['name']}: resources {resources}"


def config(objects):
    """The text of the gateway's config, if there is one."""
    for found in _of_kind(objects, "ConfigMap"):
        if "sluicegate.yaml" in found["data"]:
            return found["data"]["sluicegate.yaml"]
    return None


def _gateway(objects):
    return next(found for found in _of_kind(objects, "Deployment") if found["metadata"]["labels"]["app.kubernetes.io/component"] == "gateway")


def drain(objects):
    spec = _gateway(objects)["spec"]["template"]["spec"]
    pre_stop = spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    text = config(objects)
    seconds = int(yaml.safe_load(text)["drain"].removesuffix("s")) if text else 30
    if not spec["terminationGracePeriodSeconds"] > pre_stop + seconds + GRACE:
        yield f"grace {spec['terminationGracePeriodSeconds']} s, preStop {pre_stop} s, drain {seconds} s"


def scaling(objects):
    deployment = _gateway(objects)
    scalers = _of_kind(objects, "HorizontalPodAutoscaler") + _of_kind(objects, "ScaledObject")
    for scaler in scalers:
        if scaler["spec"]["scaleTargetRef"]["name"] != deployment["metadata"]["name"]:
            yield f"{scaler['kind']} scales {scaler['spec']['scaleTargetRef']}"
        spec = scaler["spec"]
        behavior = spec.get("behavior") or spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
        if behavior["scaleDown"]["policies"] != [{"type": "Pods", "value": 1, "periodSeconds": behavior["scaleDown"]["stabilizationWindowSeconds"]}]:
            yield f"{scaler['kind']}: pods go too fast: {behavior['scaleDown']}"
    if ("replicas" in deployment["spec"]) == bool(scalers):
        yield "every deploy would undo what the autoscaler set" if scalers else "no number of replicas"


def admin_port_is_closed(objects):
    """No client reaches the admin port: no Service of clients, and no policy that lets everyone in."""
    for service in _of_kind(objects, "Service"):
        if "admin" in [port["targetPort"] for port in service["spec"]["ports"]] and service["spec"].get("clusterIP") != "None":
            yield f"Service {service['metadata']['name']} leads to the admin port"
    for policy in _of_kind(objects, "NetworkPolicy"):
        for rule in policy["spec"]["ingress"]:
            if "admin" in [port["port"] for port in rule["ports"]] and not rule.get("from"):
                yield "the NetworkPolicy opens the admin port to everyone"


CHECKS = (names, selectors, ports, backends, volumes, security, drain, scaling, admin_port_is_closed)
