//! The program's arguments, as a shell passes them.

use std::process::{Command, Output};

fn sluicegate(arguments: &[&str], config: Option<&str>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluicegate"));
    // The demo, which runs without a config, would refuse this address and end.
    command.args(arguments).args(["--listen", "0.0.0.0:0"]);
    command.env_remove("SLUICEGATE_CONFIG");
    if let Some(config) = config {
        command.env("SLUICEGATE_CONFIG", config);
    }
    command.output().unwrap()
}

/// The files do not exist, and the problem names the one that was looked for.
#[test]
fn serve_finds_its_config_wherever_it_is_named() {
    let here = Some("/nowhere/a.yaml");
    for (arguments, config, named) in [
        (&["--config", "/nowhere/b.yaml"][..], None, "b.yaml"),
        (&["serve", "--config", "/nowhere/b.yaml"], None, "b.yaml"),
        (&["serve", "--config", "/nowhere/b.yaml"], here, "b.yaml"),
        (&["serve"], here, "a.yaml"),
        (&[], here, "a.yaml"),
    ] {
        let output = sluicegate(arguments, config);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(named), "{arguments:?}: {said}");
        assert!(said.contains("cannot be read"), "{arguments:?}: {said}");
    }
}

/// The flag would be ignored, and the demo would run.
#[test]
fn flags_of_serve_before_a_subcommand_are_refused() {
    let output = sluicegate(&["--config", "/nowhere/b.yaml", "serve"], None);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("cannot be used with"), "{said}");
}
