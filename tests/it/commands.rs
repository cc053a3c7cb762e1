//! What a person at the command line meets.

use std::io::Read;
use std::process::{Command, Stdio};

use crate::support::{Installation, free_port};

#[test]
fn a_reader_that_goes_away_ends_a_command_quietly() {
    let installation = Installation::embedded(1);
    for arguments in [&["doctor"][..], &["project", "list"], &["shards"], &["migrate"]] {
        installation.create_project("listed");
        let mut command: Command = installation.command();
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the weir binary runs");
        // Closed before anything is written.
        drop(child.stdout.take());
        let mut errors = String::new();
        child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        let status = child.wait().unwrap();
        assert!(status.success() && !errors.contains("panicked"), "{arguments:?}: {status}\n{errors}");
    }
}

#[test]
fn what_is_wrong_is_said_with_the_value_and_the_limit() {
    let installation = Installation::embedded(1);
    installation.create_project("pa");
    let long = "n".repeat(3_000);
    let unreadable = installation.folder().join("pretty.json");
    std::fs::write(&unreadable, "[\n{\n\"event\": \"e\"\n}\n]\n").unwrap();
    let folder = installation.folder().display().to_string();
    let unreadable = unreadable.display().to_string();
    for (arguments, says) in [
        (
            &["key", "create", "--project", "pa", "--label", &long][..],
            "3000 characters; it may have at most 100",
        ),
        (&["key", "list", "--project", "nobody"], "there is no project \"nobody\""),
        (&["account", "create", "<x>@y"], "is no email address"),
        (&["account", "create", &long], "nnn…\" is no email address"),
        (&["project", "create", "a\u{202e}b"], "control characters"),
        (&["import", "--project", "pa", &unreadable], "all 5 rows were rejected"),
        (&["import", "--project", "pa", &unreadable, &folder], "is a folder"),
        (&["generate", "--until", "0001-01-01"], "begins before 1971"),
    ] {
        let output = installation.output(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{arguments:?}");
        assert!(errors.contains(says), "{arguments:?} says {errors}");
        assert!(errors.len() < 500, "{arguments:?} says {errors}");
    }
    let late = installation.run(&["generate", "--until", "9999-12-31", "--events", "3"]);
    assert_eq!(late.lines().count(), 3);
}

#[test]
fn a_database_that_is_away_is_named_with_what_to_check() {
    let installation = Installation::mysql(&["mysql://weir:hunter2@127.0.0.1:1/weir".to_owned()], 1);
    let output = installation.output(&["project", "list"]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && !errors.contains("hunter2"), "{errors}");
    for says in ["127.0.0.1:1/weir cannot be reached", "WEIR__STORAGE__CONTROL"] {
        assert!(errors.contains(says), "{errors}");
    }
}

/// A password is shown once: a start that fails must not be the one that makes it.
#[test]
fn a_first_start_whose_port_is_taken_makes_no_account() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for key in ["WEIR__HTTP__BIND", "WEIR__HTTP__OPS_BIND"] {
        let free = format!("127.0.0.1:{}", free_port());
        let installation = Installation::embedded(1).with("WEIR__HTTP__BIND", &free).with(key, &taken);
        let plain = installation.command();
        let mut on_terminal = Command::new("script");
        on_terminal.args(["--quiet", "--return", "--command"]).arg(plain.get_program()).arg("/dev/null");
        on_terminal.current_dir(installation.folder());
        for (key, value) in plain.get_envs() {
            match value {
                Some(value) => on_terminal.env(key, value),
                None => on_terminal.env_remove(key),
            };
        }
        let output = on_terminal.output().expect("script, of util-linux, runs");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(!output.status.success() && said.contains(&format!("{taken}: ")), "{key}: {said}");
        assert!(!said.contains("password"), "{said}");
        let projects = installation.run(&["project", "list", "--json"]);
        assert!(!projects.contains("My project"), "{projects}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_terminal_the_first_start_says_how_to_log_in_and_the_demo_prints_no_password() {
    let installation = Installation::embedded(1);
    let weir = installation.serve_with(&[("WEIR_HTTP_BIND", "127.0.0.1:1")]).await;
    weir.stop();
    let log = installation.folder().join("weir.log");
    let said = std::fs::read_to_string(&log).unwrap();
    assert!(said.contains("weir account create YOU@EXAMPLE.COM --admin"), "{said}");
    assert!(said.contains("WEIR_HTTP_BIND is not read: the setting is WEIR__HTTP__BIND"), "{said}");

    let installation = Installation::embedded(1);
    let mut weir = installation.start_demo();
    weir.ready().await;
    // Filled, and with an account whose password nobody was told.
    let printed = installation.run(&["account", "reset-password", "demo@weir.local"]);
    assert!(printed.contains("Password: "), "{printed}");
    weir.stop();
    let said = std::fs::read_to_string(installation.folder().join("weir.log")).unwrap();
    assert!(said.contains("weir account reset-password demo@weir.local"), "{said}");
    assert!(!said.contains("password  "), "{said}");
}
