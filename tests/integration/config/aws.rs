//! Bedrock: credentials and region, from the file or from the environment.

use secrecy::ExposeSecret;
use sluicegate::config::{Config, LoadedConfig, Overrides, Problems};
use sluicegate::model::Credential;

const KEY: [(&str, &str); 2] = [
    ("AWS_ACCESS_KEY_ID", "AKID5ecret"),
    ("AWS_SECRET_ACCESS_KEY", "k5ecret"),
];

fn parse(upstream: &str, env: &[(&str, &str)]) -> Result<LoadedConfig, Problems> {
    let text = format!("models: {{}}\nupstreams:\n  {upstream}\n");
    let env = |name: &str| {
        let found = env.iter().find(|(variable, _)| *variable == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    Config::parse(&text, "gateway.yaml", &env, &Overrides::default())
}

/// The first upstream's credential and address, abbreviated.
fn credential(upstream: &str, env: &[(&str, &str)]) -> (String, String) {
    let loaded = parse(upstream, env).unwrap_or_else(|problems| panic!("{problems}"));
    let config = loaded.config;
    let shown = format!("{config:?} {}", config.effective());
    assert!(!shown.contains("5ecret"), "{shown}");
    let upstream = &config.upstreams[0];
    let credential = match &upstream.credential {
        None => "none".to_owned(),
        Some(Credential::Bearer(key)) => format!("bearer {}", key.expose_secret()),
        Some(Credential::Header(name, _)) => format!("header {name}"),
        Some(Credential::SigV4(key)) => {
            let token = key.session_token.as_ref().map(ExposeSecret::expose_secret);
            format!(
                "{} {} {} {} {}",
                key.access_key_id.expose_secret(),
                key.secret_access_key.expose_secret(),
                token.unwrap_or("-"),
                key.region,
                key.service
            )
        }
    };
    (credential, upstream.base_url.to_string())
}

fn problems(upstream: &str, env: &[(&str, &str)]) -> Vec<String> {
    match parse(upstream, env) {
        Ok(_) => panic!("accepted: {upstream}"),
        Err(problems) => problems.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn the_file_overrides_the_environment() {
    let vendor = |region: &str| format!("https://bedrock-runtime.{region}.amazonaws.com/");
    let [id, key] = KEY;
    let region = ("AWS_REGION", "us-west-2");
    let other_region = ("AWS_DEFAULT_REGION", "ap-south-1");
    let token = ("AWS_SESSION_TOKEN", "t5ecret");
    let bearer = ("AWS_BEARER_TOKEN_BEDROCK", "b5ecret");
    #[rustfmt::skip]
    let cases = [
        ("bedrock: { region: eu-west-1, api_key: a5ecret }", vec![id, key, region, bearer],
            "bearer a5ecret", "eu-west-1"),
        ("bedrock: { region: eu-west-1 }", vec![id, key, region],
            "AKID5ecret k5ecret - eu-west-1 bedrock", "eu-west-1"),
        ("bedrock: { region: eu-west-1, api_key: '' }", vec![id, key, token],
            "AKID5ecret k5ecret t5ecret eu-west-1 bedrock", "eu-west-1"),
        ("bedrock: {}", vec![id, key, other_region, region],
            "AKID5ecret k5ecret - us-west-2 bedrock", "us-west-2"),
        ("bedrock: {}", vec![id, key, other_region, ("AWS_REGION", "")],
            "AKID5ecret k5ecret - ap-south-1 bedrock", "ap-south-1"),
        ("bedrock: {}", vec![id, key, region, bearer], "bearer b5ecret", "us-west-2"),
        ("b: { preset: bedrock }", vec![region, bearer], "bearer b5ecret", "us-west-2"),
    ];
    for (upstream, env, expected, region) in cases {
        let expected = (expected.to_owned(), vendor(region));
        assert_eq!(credential(upstream, &env), expected, "{upstream} {env:?}");
    }
}

#[test]
fn requests_to_another_address_are_signed_if_there_is_a_key() {
    let url = "base_url: 'http://127.0.0.1:9'";
    let signed = "AKID5ecret k5ecret - eu-west-1 bedrock";
    for upstream in [
        format!("bedrock: {{ {url}, region: eu-west-1 }}"),
        format!("own: {{ wire: bedrock-converse, {url}, region: eu-west-1 }}"),
    ] {
        assert_eq!(credential(&upstream, &KEY).0, signed, "{upstream}");
        assert_eq!(credential(&upstream, &[]).0, "none", "{upstream}");
    }
    let upstream = format!("bedrock: {{ {url} }}");
    assert_eq!(credential(&upstream, &[]).0, "none");
    let found = problems(&upstream, &KEY);
    assert_eq!(
        found,
        [
            "gateway.yaml:3: upstreams.bedrock.api_key: is missing, and requests cannot be signed \
             without a `region`; set one"
        ]
    );
}

#[test]
fn missing_credentials_and_regions_are_named() {
    let of = |env: &[(&str, &str)]| problems("bedrock: { region: eu-west-1 }", env).concat();
    let [id, key] = KEY;
    // This is only a warning: the environment in which the config will run may have them.
    let warnings = parse("bedrock: { region: eu-west-1 }", &[])
        .unwrap()
        .warnings;
    let missing = warnings
        .iter()
        .find(|warning| warning.path == "upstreams.bedrock.api_key")
        .unwrap()
        .to_string();
    assert!(
        missing.starts_with("gateway.yaml:3: upstreams.bedrock.api_key: is missing"),
        "{missing}"
    );
    assert!(missing.contains("AWS_ACCESS_KEY_ID"), "{missing}");
    assert!(of(&[id]).ends_with("AWS_ACCESS_KEY_ID is set, but AWS_SECRET_ACCESS_KEY is not"));
    assert!(of(&[key]).ends_with("AWS_SECRET_ACCESS_KEY is set, but AWS_ACCESS_KEY_ID is not"));
    let broken = of(&[("AWS_ACCESS_KEY_ID", "a\nb5ecret"), key]);
    assert!(
        broken.contains("AWS_ACCESS_KEY_ID contains characters"),
        "{broken}"
    );
    assert!(!broken.contains("5ecret"), "{broken}");

    let all = problems("bedrock: {}", &[]);
    assert_eq!(all.len(), 1, "{all:#?}");
    assert!(
        all.iter()
            .any(|problem| problem.contains("bedrock.region: is missing"))
    );
    let evil = problems("bedrock: {}", &[id, key, ("AWS_REGION", "evil.com/")]).concat();
    assert!(
        evil.contains("bedrock.region: is missing, and the environment variable AWS_REGION is not")
    );
    let elsewhere = problems("cohere: { api_key: k, region: eu-west-1 }", &[]).concat();
    assert!(elsewhere.contains("cohere.region: has no effect here"));
}
