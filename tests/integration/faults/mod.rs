//! The fault table: what a client gets, and what upstreams and metrics see, for each fault of an upstream
//! under each policy. The rows are data, in `tests/faults/`; they run against the real binary.
//!
//! | file | does |
//! |---|---|
//! | `table` | the form of the data |
//! | `upstream` | follows a script for each request |
//! | `client` | asks in each dialect and checks the answer |
//! | `connection` | the client's connection, over HTTP/1.1 or HTTP/2 |
//! | `process` | the program, its config, metrics and notifications |
//! | `case` | one row in one dialect |
//! | `run` | runs the rows of one file |

mod case;
mod client;
mod connection;
mod process;
mod run;
mod table;
mod upstream;

use std::collections::HashSet;

use crate::gateway::program::can_replace_hosts;

/// The files of the table; each has a test here.
const GROUPS: [&str; 12] = [
    "affinity",
    "breaker",
    "deadlines",
    "dns",
    "early",
    "failover",
    "fastest",
    "hedge",
    "http2",
    "leaks",
    "leaving",
    "retry",
];

async fn run(name: &str) {
    run::run(table::group(name), &table::scripts(), None).await;
}

#[tokio::test]
async fn failover() {
    run("failover").await;
}

#[tokio::test]
async fn fastest() {
    run("fastest").await;
}

#[tokio::test]
async fn retry() {
    run("retry").await;
}

#[tokio::test]
async fn breaker() {
    run("breaker").await;
}

#[tokio::test]
async fn hedge() {
    run("hedge").await;
}

#[tokio::test]
async fn http2() {
    run("http2").await;
}

#[tokio::test]
async fn affinity() {
    run("affinity").await;
}

#[tokio::test]
async fn deadlines() {
    run("deadlines").await;
}

#[tokio::test]
async fn deadlines_after_the_head() {
    run("early").await;
}

#[tokio::test]
async fn leaving() {
    run("leaving").await;
}

#[tokio::test]
async fn leaks() {
    run("leaks").await;
}

/// Only where a process may have a mount namespace of its own: a name gets several addresses by its
/// `/etc/hosts`.
#[tokio::test]
async fn dns() {
    const HOSTS: &str = "127.0.0.1 localhost\n127.0.0.2 two-addresses.test\n\
                         ::1 two-addresses.test\n127.0.0.1 two-addresses.test\n";
    if can_replace_hosts() {
        run::run(table::group("dns"), &table::scripts(), Some(HOSTS)).await;
    }
}

#[test]
fn the_table_has_its_rows() {
    let groups = table::groups();
    assert_eq!(groups, GROUPS, "files without a test");
    let mut names = HashSet::new();
    for group in &groups {
        for row in table::group(group).rows {
            assert!(names.insert(row.name.clone()), "two rows `{}`", row.name);
            let checks = !row.steps.is_empty() || !row.dialects.is_empty();
            assert!(checks, "`{}` asks nothing", row.name);
        }
    }
    assert!(names.len() >= 60, "{} rows", names.len());
}
