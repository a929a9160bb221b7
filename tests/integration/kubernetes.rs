//! The Kubernetes base: its config is a good one, and Deployment, Service, config and image fit.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use sluicegate::config::{Config, LoadedConfig, Overrides};

/// What serve may take after the drain: streams, then connections, say their last words.
const LAST_WORDS: Duration = Duration::from_secs(10);

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

fn yaml(path: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(&read(path)).unwrap()
}

fn deployment() -> Value {
    yaml("k8s/base/deployment.yaml").remove(0)
}

/// The container's variables, as if the Secret were there.
fn secret(deployment: &Value) -> impl Fn(&str) -> Option<String> {
    let list = container(deployment)["env"].as_array().unwrap();
    let names: Vec<String> = list.iter().map(|entry| text(&entry["name"])).collect();
    move |name| {
        names
            .iter()
            .any(|n| n == name)
            .then(|| "sk-test".to_owned())
    }
}

fn config(deployment: &Value) -> LoadedConfig {
    let file = "k8s/base/sluicegate.yaml";
    let none = Overrides::default();
    Config::parse(&read(file), file, &secret(deployment), &none)
        .unwrap_or_else(|problems| panic!("{problems}"))
}

fn pod(deployment: &Value) -> &Value {
    &deployment["spec"]["template"]["spec"]
}

fn container(deployment: &Value) -> &Value {
    &pod(deployment)["containers"][0]
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// The number of the container's port of that name.
fn port(deployment: &Value, name: &Value) -> u64 {
    let ports = container(deployment)["ports"].as_array().unwrap();
    let found = ports.iter().find(|port| port["name"] == *name).unwrap();
    found["containerPort"].as_u64().unwrap()
}

/// What follows `word` on its line of the Dockerfile.
fn dockerfile(word: &str) -> String {
    let text = read("Dockerfile");
    let line = text.lines().find_map(|line| line.strip_prefix(word));
    line.unwrap().trim().to_owned()
}

#[test]
fn the_config_is_accepted_and_its_key_is_a_placeholder() {
    let loaded = config(&deployment());
    let [warning] = &loaded.warnings[..] else {
        panic!("{:?}", loaded.warnings);
    };
    assert!(warning.message.contains("placeholder"), "{warning}");
    assert!(loaded.config.keys.is_some(), "a key is asked for");
}

#[test]
fn ports_and_probes_lead_to_the_config_s_addresses() {
    let deployment = deployment();
    let config = config(&deployment).config;
    assert!(config.listen.ip().is_unspecified());
    assert!(config.admin_listen.ip().is_unspecified());
    for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
        let probe = &container(&deployment)[probe]["httpGet"];
        let port = port(&deployment, &probe["port"]);
        assert_eq!(port, u64::from(config.admin_listen.port()), "{probe}");
    }
    let services = yaml("k8s/base/service.yaml");
    let targets = services.iter().map(|service| {
        let target = &service["spec"]["ports"][0]["targetPort"];
        (
            text(&service["metadata"]["name"]),
            port(&deployment, target),
        )
    });
    let expected = [
        ("sluicegate".to_owned(), u64::from(config.listen.port())),
        (
            "sluicegate-metrics".to_owned(),
            u64::from(config.admin_listen.port()),
        ),
    ];
    assert_eq!(targets.collect::<Vec<_>>(), expected);
}

#[test]
fn a_pod_has_the_time_to_drain() {
    let deployment = deployment();
    let pod = pod(&deployment);
    let seconds = |value: &Value| Duration::from_secs(value.as_u64().unwrap());
    let sleep = seconds(&container(&deployment)["lifecycle"]["preStop"]["sleep"]["seconds"]);
    let grace = seconds(&pod["terminationGracePeriodSeconds"]);
    let drain = config(&deployment).config.drain;
    assert!(grace > sleep + drain + LAST_WORDS, "{grace:?}");
    assert_eq!(
        deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"],
        0
    );
}

#[test]
fn the_deployment_fits_the_image() {
    let deployment = deployment();
    let user = &pod(&deployment)["securityContext"];
    let ids = format!("{}:{}", user["runAsUser"], user["runAsGroup"]);
    assert_eq!(dockerfile("USER"), ids);

    let path = dockerfile("ENV SLUICEGATE_CONFIG=");
    let mount = text(&container(&deployment)["volumeMounts"][0]["mountPath"]);
    let kustomization = &yaml("k8s/base/kustomization.yaml")[0];
    let generated = &kustomization["configMapGenerator"][0];
    assert_eq!(path, format!("{mount}/{}", text(&generated["files"][0])));
    let volume = &pod(&deployment)["volumes"][0]["configMap"]["name"];
    assert_eq!(*volume, generated["name"]);

    let image = &kustomization["images"][0];
    assert_eq!(container(&deployment)["image"], image["name"]);
    assert_eq!(image["newTag"], env!("CARGO_PKG_VERSION"));
    let config = config(&deployment).config;
    let ports = format!("{} {}", config.listen.port(), config.admin_listen.port());
    assert_eq!(dockerfile("EXPOSE"), ports);
}
