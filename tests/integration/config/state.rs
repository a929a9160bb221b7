//! `state`: a word, a URL, or a section.

use sluicegate::config::{Servers, SharedStateConfig, StateConfig};

use super::{good, problem};

const CERTIFICATE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/integration/exchange/certificates/test-local.pem"
);

fn config(state: &str) -> String {
    format!("models: {{}}\nstate: {state}\n")
}

fn shared(state: &str) -> SharedStateConfig {
    match good(&config(state)).state {
        StateConfig::Shared(shared) => *shared,
        StateConfig::Memory => panic!("{state} is not shared"),
    }
}

fn address(client: &redis::Client) -> String {
    client.get_connection_info().addr().to_string()
}

#[test]
fn a_url_names_one_server() {
    for state in [
        "redis://u:p@host:7000/3",
        "{ url: 'redis://u:p@host:7000/3' }",
    ] {
        let Servers::One(server) = shared(state).servers else {
            panic!("{state}");
        };
        assert_eq!(address(&server), "host:7000");
        let settings = server.get_connection_info().redis_settings();
        assert_eq!(settings.db(), 3);
        assert_eq!(settings.password(), Some("p"));
    }
}

#[test]
fn sentinels_name_the_server() {
    let state = "{ url: 'redis://u:pw@main/2', sentinels: [a, 'b:26380'], sentinel_password: s3 }";
    let Servers::Sentinel(servers) = shared(state).servers else {
        panic!("{state}");
    };
    assert_eq!(servers.master, "main");
    let addresses: Vec<_> = servers.sentinels.iter().map(address).collect();
    assert_eq!(addresses, ["a:26379", "b:26380"]);
    let sentinel = servers.sentinels[0].get_connection_info().redis_settings();
    assert_eq!((sentinel.password(), sentinel.db()), (Some("s3"), 0));
    // The master has the URL's credentials and database.
    let master = servers.template.at("there".to_owned(), 7).unwrap();
    assert_eq!(address(&master), "there:7");
    let master = master.get_connection_info().redis_settings().clone();
    assert_eq!((master.password(), master.db()), (Some("pw"), 2));
}

#[test]
fn certificates_are_for_the_sentinels_and_for_the_server_they_name() {
    let state = format!("{{ url: 'rediss://main/0', sentinels: [a], ca: {CERTIFICATE} }}");
    let Servers::Sentinel(servers) = shared(&state).servers else {
        panic!("{state}");
    };
    let named = servers.template.at("there".to_owned(), 7).unwrap();
    for (client, name) in [(&servers.sentinels[0], "a"), (&named, "there")] {
        match client.get_connection_info().addr() {
            redis::ConnectionAddr::TcpTls {
                host,
                insecure: false,
                tls_params: Some(_),
                ..
            } => assert_eq!(host, name),
            other => panic!("{other}"),
        }
    }
}

#[test]
fn a_section_is_written_with_its_passwords_redacted() {
    for state in [
        format!("{{ url: 'rediss://u:pw5ecret@h/0', ca: {CERTIFICATE} }}"),
        "{ url: 'redis://:pw5ecret@main/0', sentinels: ['s:1'], sentinel_password: pw5ecret }"
            .to_owned(),
        "{ url: 'redis://:pw5ecret@h', cluster: on }".to_owned(),
    ] {
        let config = good(&config(&state));
        let effective = config.effective();
        assert!(!effective.contains("5ecret"), "{effective}");
        assert!(!format!("{config:?}").contains("5ecret"));
        let again = good(&effective);
        assert_eq!(again.effective(), effective);
        assert!(matches!(again.state, StateConfig::Shared(_)), "{effective}");
    }
}

#[test]
fn a_connection_is_kept_only_if_nothing_of_it_changed() {
    let all = [
        "redis://h/0",
        "redis://:p@h/0",
        "{ url: 'redis://h/0', cluster: on }",
        "{ url: 'redis://h/0', sentinels: ['s:1'] }",
        "{ url: 'redis://h/0', sentinels: ['s:1'], sentinel_password: p }",
    ];
    for (at, one) in all.iter().enumerate() {
        for (other_at, other) in all.iter().enumerate() {
            assert_eq!(
                shared(one) == shared(other),
                at == other_at,
                "{one} {other}"
            );
        }
    }
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    for (state, expected) in [
        ("{ ca: /x }", "state.url: is missing"),
        ("{ url: 'http://h' }", "state.url: is neither"),
        (
            "{ url: 'redis://main:1/0', sentinels: [a] }",
            "state.url: must not have a port",
        ),
        (
            "{ url: 'redis://main/0', sentinels: [] }",
            "state.sentinels: must name at least one",
        ),
        (
            "{ url: 'redis://main/0', sentinels: ['a b'] }",
            "state.sentinels[0]: `a b` is not an address",
        ),
        (
            "{ url: 'redis://main/0', sentinels: [a], cluster: on }",
            "state: has both `sentinels` and `cluster`",
        ),
        (
            "{ url: 'redis://h/1', cluster: on }",
            "state.url: must not name a database",
        ),
        (
            "{ url: 'redis://h', sentinel: [a] }",
            "state.sentinel: unknown key; did you mean `sentinels`?",
        ),
    ] {
        let found = problem(&config(state));
        assert!(found.contains(expected), "{state}: {found}");
    }
    let found = problem(&config(&format!(
        "{{ url: 'redis://h/0', ca: {CERTIFICATE} }}"
    )));
    assert!(found.contains("must begin with `rediss://`"), "{found}");
}
