//! The shape of the house: which crate may lean on which, and who may touch what from outside.
//! Held here, over `cargo metadata`, so that nothing need be installed to hold it.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};

/// What each crate may depend on inside the house. Arrows never turn; a service never depends on a
/// service, but for the one binary that carries them all.
const ARROWS: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("proto", &["domain"]),
    ("eventlog", &["domain", "proto"]),
    ("postgres", &["domain"]),
    ("projection", &["domain", "proto", "eventlog", "postgres"]),
    (
        "decider",
        &["domain", "proto", "eventlog", "postgres", "projection"],
    ),
    ("service", &["domain", "proto", "eventlog", "postgres"]),
    (
        "role",
        &[
            "domain",
            "proto",
            "eventlog",
            "postgres",
            "projection",
            "service",
        ],
    ),
    ("recording", &["proto"]),
    ("testkit", &["domain", "postgres"]),
    (
        "ingest",
        &["domain", "proto", "eventlog", "postgres", "service"],
    ),
    (
        "directory",
        &["domain", "proto", "eventlog", "postgres", "service"],
    ),
    (
        "runs",
        &[
            "domain",
            "proto",
            "eventlog",
            "postgres",
            "projection",
            "service",
            "role",
        ],
    ),
    (
        "approvals",
        &[
            "domain",
            "proto",
            "eventlog",
            "postgres",
            "projection",
            "decider",
            "service",
            "role",
        ],
    ),
    (
        "billing",
        &[
            "domain",
            "proto",
            "eventlog",
            "postgres",
            "projection",
            "decider",
            "service",
            "role",
        ],
    ),
    (
        "audit",
        &[
            "domain",
            "proto",
            "eventlog",
            "postgres",
            "projection",
            "service",
            "role",
        ],
    ),
    (
        "analytics",
        &[
            "domain",
            "proto",
            "eventlog",
            "postgres",
            "projection",
            "service",
            "role",
        ],
    ),
    (
        "runledger",
        &[
            "domain",
            "proto",
            "eventlog",
            "postgres",
            "projection",
            "decider",
            "service",
            "role",
            "recording",
            "ingest",
            "directory",
            "runs",
            "approvals",
            "audit",
            "billing",
            "analytics",
        ],
    ),
    ("tests", &["domain", "proto", "service", "testkit"]),
];

/// Who may depend on what from outside the house, in code that ships.
const WRAPPERS: &[(&str, &[&str])] = &[
    // The binary: `load` measures itself against a bare producer.
    ("rdkafka", &["eventlog", "runledger"]),
    (
        "sqlx",
        &[
            "postgres",
            "projection",
            "service",
            "role",
            "decider",
            "directory",
            "runs",
            "approvals",
            "audit",
            "billing",
            "analytics",
            "runledger",
        ],
    ),
    (
        "tonic",
        &[
            "proto",
            "service",
            "role",
            "ingest",
            "directory",
            "runs",
            "approvals",
            "audit",
            "billing",
            "analytics",
            "runledger",
        ],
    ),
    ("axum", &["service"]),
    ("clap", &["runledger"]),
    ("anyhow", &["runledger"]),
    ("config", &["service"]),
];

/// All that the pure core may depend on.
const DOMAIN_MAY_USE: &[&str] = &[
    "cel",
    "chrono",
    "chrono-tz",
    "regex",
    "ryu-js",
    "serde",
    "serde_json",
    "sha2",
    "sketches-ddsketch",
    "thiserror",
    "uuid",
];

/// All that stands at the top of the house, dot files aside.
const TOP_LEVEL: &[&str] = &[
    "ARCHITECTURE.md",
    "Cargo.lock",
    "Cargo.toml",
    "Makefile",
    "README.md",
    "deploy",
    "libs",
    "migrations",
    "proto",
    "services",
    "tests",
];

fn metadata() -> Metadata {
    MetadataCommand::new()
        .manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
        .other_options(vec!["--locked".into(), "--offline".into()])
        .no_deps()
        .exec()
        .expect("cargo metadata")
}

/// The crate's room: its name without the house prefix; the binary keeps its name.
fn room(package: &str) -> &str {
    package.strip_prefix("runledger-").unwrap_or(package)
}

fn shipped(package: &Package) -> impl Iterator<Item = &str> {
    let counts = |kind| matches!(kind, DependencyKind::Normal);
    package
        .dependencies
        .iter()
        .filter(move |dependency| counts(dependency.kind))
        .map(|dependency| dependency.name.as_str())
}

#[test]
fn dependencies_point_one_way() {
    let metadata = metadata();
    let arrows: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    let mut wrong = Vec::new();
    for package in metadata.workspace_packages() {
        let from = room(&package.name);
        let Some(allowed) = arrows.get(from) else {
            wrong.push(format!("{from} is not in ARROWS"));
            continue;
        };
        let inside = shipped(package).filter(|name| name.starts_with("runledger"));
        wrong.extend(
            inside
                .map(room)
                .filter(|to| !allowed.contains(to))
                .map(|to| format!("{from} -> {to}")),
        );
    }
    assert!(wrong.is_empty(), "arrows that must not be: {wrong:#?}");
}

#[test]
fn every_arrow_allowed_names_a_crate() {
    let metadata = metadata();
    let rooms: BTreeSet<&str> = metadata
        .workspace_packages()
        .iter()
        .map(|package| room(&package.name))
        .collect();
    let named: BTreeSet<&str> = ARROWS
        .iter()
        .flat_map(|(from, to)| to.iter().chain([from]))
        .copied()
        .collect();
    assert_eq!(named, rooms);
}

#[test]
fn what_comes_from_outside_has_its_wrappers() {
    let metadata = metadata();
    let mut wrong = Vec::new();
    for package in metadata.workspace_packages() {
        let from = room(&package.name);
        if matches!(from, "testkit" | "tests") {
            continue; // nothing of them ships
        }
        for (library, wrappers) in WRAPPERS {
            if shipped(package).any(|name| name == *library) && !wrappers.contains(&from) {
                wrong.push(format!(
                    "{from} uses {library}, which only {wrappers:?} may"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_core_is_pure() {
    let metadata = metadata();
    let domain = metadata
        .packages
        .iter()
        .find(|package| room(&package.name) == "domain")
        .expect("the domain");
    let beyond: Vec<&str> = shipped(domain)
        .filter(|name| !DOMAIN_MAY_USE.contains(name))
        .collect();
    assert!(beyond.is_empty(), "the domain must not know of {beyond:?}");
}

#[test]
fn test_support_never_ships() {
    let metadata = metadata();
    for package in metadata.workspace_packages() {
        if room(&package.name) != "tests" {
            assert!(
                shipped(package).all(|name| name != "runledger-testkit"),
                "{} ships the testkit",
                package.name
            );
        }
    }
}

#[test]
fn every_crate_is_licensed_and_takes_its_lints_from_the_house() {
    for package in metadata().workspace_packages() {
        assert_eq!(
            package.license.as_deref(),
            Some("Apache-2.0"),
            "{}",
            package.name
        );
        let manifest = std::fs::read_to_string(&package.manifest_path).expect("a manifest");
        assert!(
            manifest.contains("[lints]\nworkspace = true"),
            "{} has lints of its own",
            package.name
        );
    }
}

#[test]
fn the_top_level_is_what_it_is_meant_to_be() {
    let root = metadata().workspace_root;
    let entries = std::fs::read_dir(&root)
        .expect("the root")
        .map(|entry| entry.expect("an entry").file_name());
    let found: BTreeSet<String> = entries
        .filter_map(|name| name.into_string().ok())
        .filter(|name| !name.starts_with('.') && name != "target")
        .collect();
    let meant: BTreeSet<String> = TOP_LEVEL.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(found, meant);
}
