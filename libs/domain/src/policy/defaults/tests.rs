use super::*;
use crate::policy::tests::Given;
use crate::policy::{PolicySet, check};

#[test]
fn every_default_is_a_sound_policy() {
    assert_eq!(defaults().len(), DEFAULTS.len());
    for policy in defaults() {
        assert_eq!(check(&policy.spec), [], "{}", policy.id);
        assert_eq!((policy.version, policy.created), (0, None));
    }
}

/// Tool, hint, arguments as a text in them, and the policies that match.
const CALLS: &[(&str, &str, &str, &[&str])] = &[
    ("read", "", "/srv/app/.env", &["default-sensitive-files"]),
    ("read", "", ".env.production", &["default-sensitive-files"]),
    ("read", "", "keys/server.pem", &["default-sensitive-files"]),
    (
        "read",
        "",
        "/home/a/.aws/credentials",
        &["default-sensitive-files"],
    ),
    ("read", "", "/run/secrets/db", &["default-sensitive-files"]),
    ("read", "", "CLIENT_SECRET", &["default-sensitive-files"]),
    ("read", "", ".environment", &[]),
    ("read", "", "secretary.txt", &[]),
    ("read", "", "permission.txt", &[]),
    ("deploy_service", "", "web", &["default-deployment-tools"]),
    ("call", "deploy", "web", &["default-deployments"]),
    ("call", "app.redeploy", "web", &["default-deployments"]),
    ("employ", "employment", "web", &[]),
    ("shell", "", "rm -rf /", &["default-destructive-shell"]),
    (
        "shell",
        "",
        "cd x && sudo rm -fr x",
        &["default-destructive-shell"],
    ),
    ("shell", "", "/bin/rm -Rf x", &["default-destructive-shell"]),
    ("shell", "", "rm -r -f x", &["default-destructive-shell"]),
    (
        "shell",
        "",
        "rm -v --force --recursive x",
        &["default-destructive-shell"],
    ),
    (
        "shell",
        "",
        "rm --recursive x --force",
        &["default-destructive-shell"],
    ),
    ("shell", "", "rm -r x", &[]),
    ("shell", "", "rm -f x", &[]),
    ("shell", "", "rm a; cp -rf a b", &[]),
    ("shell", "", "docker-rm -rf", &[]),
    ("shell", "", "perform -rf", &[]),
    (
        "shell",
        "",
        "git push --force origin main",
        &["default-force-push"],
    ),
    (
        "shell",
        "",
        "git push origin main -f",
        &["default-force-push"],
    ),
    (
        "shell",
        "",
        "git -C repo push --force-with-lease",
        &["default-force-push"],
    ),
    ("shell", "", "git push origin feature", &[]),
    ("shell", "", "git push; ls -f", &[]),
];

#[test]
fn defaults_catch_what_they_say_and_nothing_else() {
    let set = PolicySet::compile(defaults());
    for (tool, hint, text, policies) in CALLS {
        let mut given = Given::new(&serde_json::json!({ "text": text }).to_string());
        given.tool = tool.parse().unwrap();
        given.hint = (*hint).into();
        let judged = set.judge(&given.subject());
        let found: Vec<_> = judged
            .matches
            .iter()
            .map(|one| one.policy.as_str())
            .collect();
        assert_eq!(found, *policies, "{tool} {hint} {text}");
    }
}

/// A verdict that names version 0 of one means this content, for ever.
#[test]
fn defaults_never_change() {
    use std::fmt::Write as _;
    let text = defaults().iter().fold(String::new(), |mut text, policy| {
        let spec = &policy.spec;
        writeln!(text, "{} {} {:?}", policy.id, spec.action, spec.when).unwrap();
        text
    });
    let digest = crate::digest::of(text.as_bytes());
    let hex = digest
        .iter()
        .fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
    assert_eq!(
        hex,
        "bcc9b6d59ec89e2bcf2f1bbb98a322f29e164071860d9f7df3d20deb8d22e281"
    );
}
