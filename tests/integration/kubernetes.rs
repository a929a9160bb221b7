//! The manifests, the image and the program fit: config, ports, times, user, versions. `tests/kubernetes`
//! checks the chart that the manifests are rendered from.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use sluicegate::config::{Config, LoadedConfig, Overrides};

/// What serve may take after the drain, until the last streams and connections have ended.
const AFTER_DRAIN: Duration = Duration::from_secs(10);
const FOLDERS: [&str; 2] = ["k8s/base", "k8s/overlays/production"];

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The object of this kind and name in a folder of manifests.
fn object(folder: &str, kind: &str, name: &str) -> Value {
    let text = read(&format!("{folder}/manifests.yaml"));
    let objects: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
    let found = objects
        .into_iter()
        .find(|object| object["kind"] == kind && object["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("{folder}: no {kind} {name}"))
}

fn deployment(folder: &str) -> Value {
    object(folder, "Deployment", "sluicegate")
}

/// The config of the ConfigMap, as if the Secret were mounted.
fn config(folder: &str) -> LoadedConfig {
    let map = object(folder, "ConfigMap", "sluicegate");
    let text = map["data"]["sluicegate.yaml"].as_str().unwrap();
    let text = text.replace("${file:/run/secrets/sluicegate/", "${");
    let env = |_: &str| Some("secret".to_owned());
    Config::parse(&text, folder, &env, &Overrides::default())
        .unwrap_or_else(|problems| panic!("{problems}"))
}

fn pod(deployment: &Value) -> &Value {
    &deployment["spec"]["template"]["spec"]
}

fn container(deployment: &Value) -> &Value {
    &pod(deployment)["containers"][0]
}

/// The number of the container's port of that name.
fn port(deployment: &Value, name: &Value) -> u64 {
    let ports = container(deployment)["ports"].as_array().unwrap();
    let found = ports.iter().find(|port| port["name"] == *name).unwrap();
    found["containerPort"].as_u64().unwrap()
}

/// What follows `word` on the last line of the Dockerfile that begins with it.
fn dockerfile(word: &str) -> String {
    let text = read("Dockerfile");
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(word));
    lines.next_back().unwrap().trim().to_owned()
}

#[test]
fn the_configs_are_accepted_and_their_key_is_a_placeholder() {
    for folder in FOLDERS {
        let loaded = config(folder);
        let [warning] = &loaded.warnings[..] else {
            panic!("{:?}", loaded.warnings);
        };
        assert!(warning.message.contains("placeholder"), "{warning}");
        assert!(loaded.config.keys.is_some(), "requests need a key");
    }
}

#[test]
fn ports_and_probes_lead_to_the_config_s_addresses() {
    for folder in FOLDERS {
        let deployment = deployment(folder);
        let config = config(folder).config;
        assert!(config.listen.ip().is_unspecified());
        assert!(config.admin_listen.ip().is_unspecified());
        for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
            let probe = &container(&deployment)[probe]["httpGet"];
            let port = port(&deployment, &probe["port"]);
            assert_eq!(port, u64::from(config.admin_listen.port()), "{probe}");
        }
        for (service, address) in [
            ("sluicegate", config.listen),
            ("sluicegate-metrics", config.admin_listen),
        ] {
            let service = object(folder, "Service", service);
            let target = &service["spec"]["ports"][0]["targetPort"];
            assert_eq!(port(&deployment, target), u64::from(address.port()));
        }
    }
}

#[test]
fn a_pod_has_the_time_to_drain() {
    for folder in FOLDERS {
        let deployment = deployment(folder);
        let seconds = |value: &Value| Duration::from_secs(value.as_u64().unwrap());
        let sleep = seconds(&container(&deployment)["lifecycle"]["preStop"]["sleep"]["seconds"]);
        let grace = seconds(&pod(&deployment)["terminationGracePeriodSeconds"]);
        let drain = config(folder).config.drain;
        assert!(grace > sleep + drain + AFTER_DRAIN, "{grace:?}");
        let update = &deployment["spec"]["strategy"]["rollingUpdate"];
        assert_eq!(update["maxUnavailable"], 0);
    }
}

#[test]
fn the_deployment_fits_the_image() {
    let deployment = deployment("k8s/base");
    let user = &pod(&deployment)["securityContext"];
    let ids = format!("{}:{}", user["runAsUser"], user["runAsGroup"]);
    assert_eq!(dockerfile("USER"), ids);

    let path = dockerfile("ENV SLUICEGATE_CONFIG=");
    let option = container(&deployment)["args"][1].as_str().unwrap();
    assert_eq!(option, format!("--config={path}"));
    let mount = container(&deployment)["volumeMounts"][0]["mountPath"].as_str();
    assert_eq!(Path::new(&path).parent().unwrap().to_str(), mount);

    let config = config("k8s/base").config;
    let ports = format!("{} {}", config.listen.port(), config.admin_listen.port());
    assert_eq!(dockerfile("EXPOSE"), ports);
}

/// CONTRIBUTING.md says where a new version is set.
#[test]
fn the_versions_are_one() {
    let version = env!("CARGO_PKG_VERSION");
    let chart: Value = serde_saphyr::from_str(&read("k8s/chart/Chart.yaml")).unwrap();
    assert_eq!(chart["version"], version);
    assert_eq!(chart["appVersion"], version);
    let image = container(&deployment("k8s/base"))["image"].clone();
    assert_eq!(image, format!("sluicegate:{version}"));
    let client: Value = serde_json::from_str(&read("clients/js/package.json")).unwrap();
    assert_eq!(client["version"], version);
    for (file, part) in [
        ("README.md", format!("This is version {version}.")),
        ("CHANGELOG.md", format!("\n## [{version}] - ")),
        (
            "fuzz/Cargo.lock",
            format!("name = \"sluicegate\"\nversion = \"{version}\""),
        ),
    ] {
        assert!(read(file).contains(&part), "{file} lacks `{part}`");
    }
}
