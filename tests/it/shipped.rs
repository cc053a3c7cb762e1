//! What is shipped beside the binary: the image, compose.yaml, HAProxy's settings, alert rules. What can
//! be run here is run; images cannot be built, so of them only the names they rely on are checked.

use std::process::Command;

use serde_json::json;

use crate::support::{Installation, repository};

fn read(path: &str) -> String {
    let text = std::fs::read_to_string(repository().join(path));
    text.unwrap_or_else(|error| panic!("{path} cannot be read: {error}"))
}

#[test]
fn every_file_that_the_image_and_compose_name_is_there() {
    let (dockerfile, ignore, compose) = (read("Dockerfile"), read(".dockerignore"), read("compose.yaml"));
    let copied: Vec<&str> = dockerfile
        .lines()
        .filter_map(|line| line.strip_prefix("COPY ").filter(|rest| !rest.starts_with("--")))
        .flat_map(|rest| rest.split_whitespace().rev().skip(1))
        .collect();
    assert!(copied.len() >= 6, "{copied:?}");
    for name in copied {
        assert!(repository().join(name).exists(), "the Dockerfile copies {name}");
        assert!(ignore.lines().any(|line| line == format!("!{name}")), ".dockerignore leaves {name} out");
    }
    let mounted: Vec<&str> =
        compose.lines().filter_map(|line| line.trim().strip_prefix("- ./")?.split(':').next()).collect();
    assert_eq!(mounted.iter().filter(|name| name.starts_with("config/")).count(), 4, "{mounted:?}");
    for name in mounted {
        assert!(repository().join(name).is_file(), "compose.yaml mounts {name}");
    }
}

#[test]
fn the_image_and_compose_set_only_settings_that_exist() {
    let example = read("config/example.toml");
    let mut section = String::new();
    let mut known = Vec::new();
    for line in example.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = format!("{}__", name.trim_end_matches(']').to_uppercase());
        } else if let Some((key, _)) = line.strip_prefix('#').and_then(|rest| rest.split_once(" = "))
            && !key.contains(' ')
        {
            known.push(format!("WEIR__{section}{}", key.to_uppercase()));
        }
    }
    let mut seen = 0;
    for text in [read("Dockerfile"), read("compose.yaml"), read("README.md")] {
        for word in text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_') {
            if word.starts_with("WEIR__") && word != "WEIR__" {
                assert!(known.contains(&word.to_owned()), "there is no setting {word}");
                seen += 1;
            }
        }
    }
    assert!(seen > 10, "{seen}");
}

#[test]
fn haproxy_takes_its_settings_for_any_number_of_replicas() {
    for replicas in [1, 2, 8] {
        let mut command = Command::new("haproxy");
        command.args(["-c", "-f"]).arg(repository().join("config/haproxy.cfg"));
        command.env("WEIR_BIND", "127.0.0.1:8080").env("WEIR_STATS", "127.0.0.1:8404");
        for n in 1..=replicas {
            command.env(format!("WEIR_{n}"), format!("127.0.0.1:{}", 9_000 + n));
        }
        let checked = command.output().expect("haproxy runs; scripts/test installs it");
        let said = String::from_utf8_lossy(&checked.stderr);
        assert!(checked.status.success() && !said.contains("WARNING"), "{replicas} replicas: {said}");
    }
}

#[test]
fn alerts_fire_when_they_should_and_on_no_quiet_day() {
    for arguments in
        [["check", "rules", "config/prometheus-alerts.yml"], ["test", "rules", "config/test/alerts.test.yml"]]
    {
        let ran = Command::new("promtool").args(arguments).current_dir(repository()).output();
        let ran = ran.expect("promtool runs; scripts/test installs it");
        let (out, errors) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        assert!(ran.status.success(), "promtool {arguments:?}:\n{out}{errors}");
    }
    let (rules, tests) = (read("config/prometheus-alerts.yml"), read("config/test/alerts.test.yml"));
    for alert in rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(
            tests.contains(&format!("alertname: {alert}\n        exp_alerts")),
            "{alert} is never tested"
        );
    }
}

/// A rule over a metric that nobody exposes would be silent for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alerts_look_only_at_what_weir_shows_from_its_first_scrape_on() {
    let installation = Installation::embedded(1);
    let project = installation.create_project("alerts");
    let weir = installation.serve().await;
    // Not more than a first look at the journal has happened.
    weir.api.send_all(&project, &[json!({"event": "one", "distinct_id": "u"})]).await;
    let question = json!({"kind": "trends", "from": "-1d", "to": "now", "series": [{"measure": "count"}]});
    weir.api.ask(&project, &question).await;
    let shown = weir.metrics().await;
    let rules = read("config/prometheus-alerts.yml");
    let mut selectors = 0;
    for (at, _) in rules.match_indices("weir_") {
        let rest = &rules[at..];
        let end = rest.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
        let (name, rest) = rest.split_at(end.expect("the file does not end with a metric"));
        assert!(shown.contains(&format!("# TYPE {name} ")), "weir does not show {name}");
        selectors += 1;
        let Some(labels) = rest.strip_prefix('{').and_then(|rest| rest.split('}').next()) else { continue };
        let (label, values) = labels.split_once('=').expect("a selector names a label");
        for value in values.trim_start_matches('~').trim_matches('"').split('|') {
            let series = format!("{label}=\"{value}\"");
            let is_shown = |line: &str| line.starts_with(&format!("{name}{{")) && line.contains(&series);
            assert!(shown.lines().any(is_shown), "weir does not show {name}{{{series}}}");
        }
    }
    assert!(selectors >= 10, "{selectors}");
    weir.stop();
}
