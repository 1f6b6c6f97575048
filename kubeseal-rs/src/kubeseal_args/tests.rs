use super::*;

fn parse_args(args: &[&str], variables: &[(&str, &str)]) -> Result<Request, Stop> {
    let variable = |name: &str| {
        variables
            .iter()
            .find(|(n, _)| *n == name)
            .map(|(_, value)| (*value).to_owned())
    };
    parse(args.iter().map(OsString::from), variable)
}

#[test]
fn the_first_of_several_commands_wins_in_upstreams_order() {
    let cases: [(&[&str], &str); 9] = [
        (&["--version", "--recovery-unseal"], "Version"),
        (&["--recovery-unseal", "--validate"], "Recover"),
        (&["--validate", "--re-encrypt"], "Validate"),
        (&["--re-encrypt", "--fetch-cert"], "ReEncrypt"),
        (&["--rotate"], "ReEncrypt"),
        (&["--fetch-cert", "--raw"], "FetchCertificate"),
        (&["--merge-into", "f", "--raw"], "MergeInto"),
        (&["--raw"], "Raw"),
        (&[], "Seal"),
    ];
    for (args, want) in cases {
        let command = format!("{:?}", parse_args(args, &[]).unwrap().command);
        assert!(command.starts_with(want), "{args:?}: {command}");
    }
}

#[test]
fn an_explicit_strict_scope_differs_from_no_scope() {
    let scope = |args: &[&str], variables: &[(&str, &str)]| {
        let Command::Seal(options) = parse_args(args, variables).unwrap().command else {
            unreachable!("sealing")
        };
        options.scope
    };
    assert_eq!(scope(&[], &[]), None);
    assert_eq!(scope(&["--scope", "strict"], &[]), Some(Scope::Strict));
    assert_eq!(
        scope(&[], &[("SEALED_SECRETS_SCOPE", "cluster-wide")]),
        Some(Scope::ClusterWide)
    );
}

#[test]
fn refuses_conflicting_arguments() {
    for (args, want) in [
        (vec!["--from-file", "x"], "--from-file requires --raw"),
        (
            vec!["--merge-into", "a", "-w", "b"],
            "--merge-into cannot be combined",
        ),
    ] {
        let Err(Stop::Refused(text)) = parse_args(&args, &[]) else {
            unreachable!("{args:?}")
        };
        assert!(text.starts_with(want), "{text}");
    }
    assert!(matches!(
        parse_args(&["--scope", "x"], &[]),
        Err(Stop::Usage(_))
    ));
}

#[test]
fn refuses_an_empty_or_malformed_pin() {
    let variable = |value| [("SEALED_SECRETS_CERT_FINGERPRINT", value)];
    for (args, variables) in [
        (vec!["--cert-fingerprint", ""], vec![]),
        (vec!["--cert-fingerprint= "], vec![]),
        (vec!["--cert-fingerprint", "SHA256:x,"], vec![]),
        (vec![], variable("\"SHA256:x").to_vec()),
        (vec![], variable(" ").to_vec()),
    ] {
        let parsed = parse_args(&args, &variables);
        assert!(matches!(parsed, Err(Stop::Refused(_))), "{args:?}");
    }
    let request = parse_args(&[], &variable("")).unwrap();
    assert!(request.warnings.is_empty());
}

#[test]
fn a_group_to_impersonate_keeps_its_commas() {
    let args = ["--as=a", "--as-group=CN=a,OU=b", "--as-group", "c"];
    let Command::Seal(options) = parse_args(&args, &[]).unwrap().command else {
        unreachable!("sealing")
    };
    let groups = options.certificate.access.overrides.impersonate_groups;
    assert_eq!(groups, ["CN=a,OU=b", "c"]);
}

#[test]
fn every_logging_flag_is_accepted() {
    let args = "--add_dir_header --alsologtostderr --log_backtrace_at=:0 --log_dir= --log_file= \
                 --log_file_max_size=1 --logtostderr=true --one_output --skip_headers --skip_log_headers \
                 --stderrthreshold=2 -v 9 --vmodule= --legacy_stderr_threshold_behavior \
                 --alsologtostderrthreshold=0";
    let args: Vec<&str> = args.split_whitespace().collect();
    assert!(parse_args(&args, &[]).is_ok());
}
