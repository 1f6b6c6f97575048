use std::collections::BTreeMap;

use jiff::SignedDuration;
use shared::key::KeySize;
use shared::key_secret::OrderPriority;
use shared::renewal;
use shared::v2::{SecretKey, Suite};

use super::*;

fn read(args: &[&str], variables: &[(&str, &str)]) -> Result<Config, EarlyExit> {
    let variable = |name: &str| {
        let entry = variables.iter().find(|(n, _)| *n == name);
        entry.map(|(_, value)| (*value).to_owned())
    };
    Config::read(args.iter().map(OsString::from), variable)
}

fn directory_config(args: &[&str]) -> Config {
    read(&[&["--directory", "d"], args].concat(), &[]).unwrap()
}

#[test]
fn flags_have_upstreams_defaults() {
    let config = directory_config(&[]);
    assert_eq!(config.keys.prefix, "sealed-secrets-key");
    assert_eq!(config.keys.namespace, "kube-system");
    assert_eq!(config.keys.spec.size, KeySize::Rsa4096);
    assert_eq!(config.keys.spec.ttl, SignedDuration::from_hours(87_600));
    let period = Some(SignedDuration::from_hours(720));
    assert_eq!(
        config.keys.policy,
        renewal::Policy {
            period,
            cutoff: None
        }
    );
    assert_eq!(config.keys.priority, OrderPriority::CertNotBefore);
    assert_eq!(config.listen.to_string(), ":8080");
    assert_eq!(config.read_timeout, Duration::from_mins(2));
    assert!(
        config.policy.rules.accept_legacy
            && config.policy.update_status
            && config.log.info_to_stdout
    );
    assert_eq!(config.warnings, [""; 0]);
}

#[test]
fn reports_all_invalid_values_together() {
    let args = [
        "--key-size=1024",
        "--sealing-suite=rsa4096",
        "--additional-recipients=age1pq1",
        "--key-prefix=My.Key",
        "--key-ttl=0",
        "--key-renew-period=-1h",
        "--key-cutoff-time=yesterday",
        "--privatekey-labels=a=b,c",
        "--listen-addr=8080",
        "--listen-metrics-addr=x",
        "--read-timeout=0",
        "--max-locks=0",
        "--minimum-suite=prod=xw",
        "--allow-secret-types=Opaque",
    ];
    let Err(EarlyExit::Invalid(errors)) = read(&args, &[]) else {
        unreachable!("accepted invalid values")
    };
    for want in [
        "--sealing-suite: unknown suite: must be one of: xw, p256, rsa",
        "--additional-recipients: expected `seal2-recipient",
        "--key-size: unsupported key size 1024: must be 2048, 3072, 4096 or 8192 bits",
        "--key-prefix: may contain only lowercase letters",
        "--key-ttl: must be longer than 0",
        "--key-renew-period: must not be negative",
        "--key-cutoff-time: invalid time",
        "--privatekey-labels: invalid pair",
        "--listen-addr: invalid address",
        "--listen-metrics-addr: invalid address",
        "--read-timeout: must be longer than 0",
        "--max-locks: must be at least 1",
        "--minimum-suite: invalid suite rule \"prod=xw\"",
        "--allow-secret-types: \"Opaque\" is not one of the types",
    ] {
        assert!(
            errors.iter().any(|m| m.starts_with(want)),
            "{want}: {errors:?}"
        );
    }
    assert_eq!(errors.len(), args.len());
}

#[test]
fn unknown_arguments_are_usage_errors_and_help_and_version_need_no_directory() {
    assert!(matches!(read(&["--nope"], &[]), Err(EarlyExit::Usage(_))));
    assert!(matches!(read(&["argument"], &[]), Err(EarlyExit::Usage(_))));
    let version = format!("controller version: {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(
        read(&["--version"], &[]).unwrap_err(),
        EarlyExit::Print(version)
    );
    assert!(matches!(read(&["--help"], &[]), Err(EarlyExit::Print(_))));
}

#[test]
fn c23_an_invalid_variable_causes_one_warning_and_the_default_applies() {
    let variables = [
        ("SEALED_SECRETS_KEY_RENEW_PERIOD", "30d"),
        ("SEALED_SECRETS_DIRECTORY", "d"),
        ("SEALED_SECRETS_KEY_SIZE", "2048"),
    ];
    let config = read(&[], &variables).unwrap();
    assert_eq!(
        config.keys.policy.period,
        Some(SignedDuration::from_hours(720))
    );
    assert_eq!(config.keys.spec.size, KeySize::Rsa2048);
    let [warning] = config.warnings.as_slice() else {
        unreachable!("{:?}", config.warnings)
    };
    assert!(
        warning.contains("SEALED_SECRETS_KEY_RENEW_PERIOD"),
        "{warning}"
    );
}

#[test]
fn c13_pairs_are_split_at_the_first_equals_sign() {
    let config = directory_config(&["--privatekey-annotations= a=b=c, d= ,"]);
    let want = [("a", "b=c"), ("d", "")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    assert_eq!(config.keys.annotations, BTreeMap::from(want));
}

#[test]
fn zero_disables_renewal_and_the_deprecated_flag_works() {
    assert_eq!(
        directory_config(&["--key-renew-period=0"])
            .keys
            .policy
            .period,
        None
    );
    let deprecated = directory_config(&["--rotate-period=1h"]);
    let period = Some(SignedDuration::from_hours(1));
    assert_eq!(deprecated.keys.policy.period, period);
    assert!(deprecated.warnings[0].contains("deprecated"));
    let both = directory_config(&["--rotate-period=1h", "--key-renew-period=2h"]);
    assert_eq!(both.keys.policy.period, Some(SignedDuration::from_hours(2)));
}

#[test]
fn parses_the_cutoff_time_in_upstreams_format() {
    let config = directory_config(&["--key-cutoff-time", "Tue, 14 Nov 2023 23:13:20 +0100"]);
    assert_eq!(
        config.keys.policy.cutoff.unwrap().as_second(),
        1_700_000_000
    );
}

fn cluster_config(args: &[&str]) -> Result<ClusterConfig, EarlyExit> {
    match read(&[&["--kubeconfig", "k"], args].concat(), &[])?.backend {
        Backend::Cluster(config) => Ok(config),
        Backend::Directory(_) => unreachable!("expected a cluster"),
    }
}

#[test]
fn requests_have_no_rate_limit_unless_a_rate_is_set() {
    assert_eq!(cluster_config(&[]).unwrap().rate, None);
    assert_eq!(cluster_config(&["--kubeclient-qps=-1"]).unwrap().rate, None);
    let rate_and_burst = ["--kubeclient-qps=2.5", "--kubeclient-burst=7"];
    let rate = cluster_config(&rate_and_burst).unwrap().rate;
    assert_eq!(rate, Some((2.5, 7)));
    let zeros = ["--kubeclient-qps=0", "--kubeclient-burst=0"];
    assert_eq!(cluster_config(&zeros).unwrap().rate, Some((5.0, 10)));
}

#[test]
fn refuses_lease_times_that_allow_two_leaders() {
    let election = cluster_config(&[]).unwrap().election;
    assert!(election.enabled && election.renew_deadline < election.lease_duration);
    for args in [
        ["--leader-elect-renew-deadline=12s"],
        ["--leader-elect-retry-period=7s"],
        ["--leader-elect-lease-duration=500ms"],
        ["--leader-elect-lease-duration=61m"],
        ["--leader-elect-lease-name="],
    ] {
        assert!(
            matches!(cluster_config(&args), Err(EarlyExit::Invalid(_))),
            "{args:?}"
        );
    }
}

#[test]
fn unknown_values_that_upstream_accepts_cause_warnings() {
    let config = directory_config(&[
        "--log-level=LOUD",
        "--log-format=xml",
        "--key-order-priority=Age",
        "--label-selector=a=b",
        "--kubeclient-qps=9",
    ]);
    assert_eq!(config.log, log::Config::default());
    assert_eq!(config.keys.priority, OrderPriority::CertNotBefore);
    assert_eq!(config.warnings.len(), 5, "{:?}", config.warnings);
}

#[test]
fn with_a_directory_metrics_listen_on_the_host_of_the_main_port_or_localhost() {
    for (args, want) in [
        (&[][..], "127.0.0.1:8081"),
        (&["--listen-addr=127.0.0.1:9000"], "127.0.0.1:8081"),
        (&["--listen-addr=[::1]:9000"], "[::1]:8081"),
        (&["--listen-addr=192.0.2.1:9000"], "192.0.2.1:8081"),
        (&["--listen-addr=:9000"], ":8081"),
        (&["--listen-metrics-addr=:8081"], ":8081"),
        (
            &[
                "--listen-addr=127.0.0.1:9000",
                "--listen-metrics-addr=192.0.2.1:1",
            ],
            "192.0.2.1:1",
        ),
    ] {
        let config = directory_config(args);
        assert_eq!(config.listen_metrics.to_string(), want, "{args:?}");
    }
    let config = read(
        &["--directory=d"],
        &[("SEALED_SECRETS_LISTEN_METRICS_ADDR", ":8081")],
    );
    assert_eq!(config.unwrap().listen_metrics.to_string(), ":8081");
    let in_cluster = read(&["--listen-addr=127.0.0.1:9000", "--kubeconfig=k"], &[]);
    assert_eq!(in_cluster.unwrap().listen_metrics.to_string(), ":8081");
}

#[test]
fn refuses_names_that_no_object_can_have() {
    for (flag, name, is_valid) in [
        ("additional-namespaces", "a,b-1", true),
        ("additional-namespaces", " a , b ,", true),
        ("additional-namespaces", "*", false),
        ("additional-namespaces", "a/../b", false),
        ("additional-namespaces", "a,b c", false),
        ("additional-namespaces", "a;b", false),
        ("additional-namespaces", "a.b", false),
        ("additional-namespaces", "A", false),
        ("additional-namespaces", "..", false),
        ("additional-namespaces", "a?limit=1", false),
        ("certificate-configmap", "a.b", true),
        ("certificate-configmap", "a/../b", false),
        ("certificate-configmap", "A", false),
        ("leader-elect-lease-name", "a.b", true),
        ("leader-elect-lease-name", "a/../b", false),
    ] {
        let config = cluster_config(&[&format!("--{flag}={name}")]);
        let Err(EarlyExit::Invalid(errors)) = config else {
            assert!(is_valid, "{flag} {name}");
            continue;
        };
        assert!(!is_valid, "{errors:?}");
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].starts_with(&format!("--{flag}: ")), "{errors:?}");
    }
}

#[test]
fn additional_recipients_are_post_quantum_if_the_suite_is() {
    let line = |suite| {
        let key = SecretKey::from_bytes(suite, &[1; 32]).unwrap();
        key.recipient().to_string()
    };
    let (xw, p256) = (line(Suite::XWing), line(Suite::P256));
    for (suite, recipients, is_accepted) in [
        ("xw", format!("{xw}, {xw},"), true),
        ("xw", p256.clone(), false),
        ("rsa", p256, true),
        ("p256", xw, false),
    ] {
        let suite = format!("--sealing-suite={suite}");
        let recipients = format!("--additional-recipients={recipients}");
        let result = read(&["--directory=d", &suite, &recipients], &[]);
        assert_eq!(result.is_ok(), is_accepted, "{suite}");
    }
}
