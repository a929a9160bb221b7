//! The pages of clients show what `sluicegate connect` prints.

use std::fs;

use clap::ValueEnum as _;
use sluicegate::command::connect::{Client, Connect};
use url::Url;

use super::root;

fn printed(client: Client, url: &str, key: &str, model: &str) -> String {
    let connect = Connect {
        client,
        url: Url::parse(url).unwrap(),
        key: key.to_owned(),
        model: model.to_owned(),
    };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    assert_eq!(connect.run(&mut out, &mut err), 0);
    String::from_utf8(out).unwrap()
}

#[test]
fn every_client_has_a_page_with_what_connect_prints() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    for client in Client::value_variants() {
        let value = client.to_possible_value().unwrap();
        let name = value.get_name();
        let path = format!("docs/clients/{name}.md");
        let page = fs::read_to_string(root().join(&path)).unwrap_or_else(|_| panic!("no {path}"));
        let text = printed(*client, "http://localhost:8080", "YOUR_KEY", "fast");
        assert!(
            page.contains(&format!("\n{text}```\n")),
            "{path} lacks\n{text}"
        );
        assert!(
            page.contains(&format!("sluicegate connect {name}")),
            "{path}"
        );
        assert!(
            readme.contains(&format!("({path})")),
            "README.md lacks {path}"
        );
    }
}

#[test]
fn the_values_are_in_the_text() {
    for client in Client::value_variants() {
        for url in ["https://llm.example:8443", "https://llm.example:8443/v1/"] {
            let text = printed(*client, url, "sk-1", "local/qwen:7b");
            for value in ["https://llm.example:8443", "sk-1", "local/qwen:7b"] {
                assert!(text.contains(value), "{text}");
            }
            assert!(
                !text.contains("/v1/v1") && !text.contains("{url}"),
                "{text}"
            );
        }
    }
}
