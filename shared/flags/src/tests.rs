use super::*;

const PROGRAM: Program = Program {
    name: "p",
    about: "Tests flags.",
    after_help: "",
    flags: &[
        Flag::new("raw", Kind::Switch, "false", "A switch."),
        Flag::new("update", Kind::Switch, "true", "Another switch."),
        Flag::new("format", Kind::Text, "json", "A string.").short('o'),
        Flag::new("from-file", Kind::List, "", "A list."),
        Flag::new("size", Kind::Int, "4096", "A number.").short('s'),
        Flag::new(
            "scope",
            Kind::Choice(&["strict", "wider"], "one of: strict, wider"),
            "",
            "A choice.",
        ),
        Flag::new("count", Kind::Count, "0", "A number."),
        Flag::new("rate", Kind::Float, "5", "A fraction."),
        Flag::new("period", Kind::Duration, "720h", "A duration."),
        Flag::new("group", Kind::Repeated, "", "A string, or several."),
        Flag::new("pin", Kind::List, "", "A security setting.").strict(),
        Flag::new("v", Kind::Text, "", "Hidden.")
            .short('v')
            .hidden()
            .without_variable(),
    ],
};

fn parse(args: &[&str], variables: &[(&str, &str)]) -> Result<Flags, Stop> {
    let variable = |name: &str| {
        variables
            .iter()
            .find(|(n, _)| *n == name)
            .map(|(_, value)| (*value).to_owned())
    };
    PROGRAM.parse(args.iter().map(OsString::from), variable)
}

#[test]
fn parses_flags_as_go_does() {
    for (why, args, format, raw) in [
        ("nothing", vec![], "json", false),
        ("separate", vec!["--format", "yaml"], "yaml", false),
        ("with equals", vec!["--format=yaml", "--raw"], "yaml", true),
        ("short", vec!["-oyaml"], "yaml", false),
        ("short with equals", vec!["-o=yaml"], "yaml", false),
        (
            "the last one counts",
            vec!["-o", "x", "--format=y"],
            "y",
            false,
        ),
        (
            "a value that looks like a flag",
            vec!["-o", "--raw"],
            "--raw",
            false,
        ),
        ("an empty value", vec!["--format="], "", false),
        ("a switch with a value", vec!["--raw=T"], "json", true),
        (
            "a switch turned off again",
            vec!["--raw", "--raw=0"],
            "json",
            false,
        ),
    ] {
        let flags = parse(&args, &[]).unwrap();
        assert_eq!(
            (flags.text("format"), flags.switch("raw")),
            (format, raw),
            "{why}"
        );
    }
}

#[test]
fn parses_lists_numbers_durations_and_switches() {
    let args = [
        "--from-file",
        "a,b",
        "--from-file",
        "\"c,d\"",
        "-s",
        "-1",
        "--rate=-0.5",
        "--period",
        "1h30m",
        "--update=false",
    ];
    let flags = parse(&args, &[]).unwrap();
    assert_eq!(flags.list("from-file"), ["a", "b", "c,d"]);
    assert_eq!(flags.int("size"), -1);
    assert!((flags.float("rate") + 0.5).abs() < f64::EPSILON);
    assert_eq!(flags.duration("period"), SignedDuration::from_mins(90));
    assert!(!flags.switch("update"));
    assert!(flags.is_set("size") && !flags.is_set("raw"));
}

#[test]
fn the_command_line_overrides_variables_and_extends_lists() {
    let variables = [
        ("SEALED_SECRETS_FORMAT", "yaml"),
        ("SEALED_SECRETS_SIZE", "2048"),
        ("SEALED_SECRETS_FROM_FILE", "x"),
        ("SEALED_SECRETS_V", "9"),
    ];
    let flags = parse(&["--format", "json", "--from-file", "y"], &variables).unwrap();
    assert_eq!(flags.text("format"), "json");
    assert_eq!(flags.int("size"), 2048);
    assert_eq!(flags.list("from-file"), ["x", "y"]);
    assert_eq!(flags.text("v"), "");
    assert!(flags.is_set("size"));
}

#[test]
fn repeated_values_keep_their_commas() {
    let variables = [("SEALED_SECRETS_GROUP", "cn=a,ou=b")];
    let flags = parse(&["--group", "c,\"d", "--group="], &variables).unwrap();
    assert_eq!(flags.list("group"), ["cn=a,ou=b", "c,\"d"]);
    assert!(
        parse(&[], &[("SEALED_SECRETS_GROUP", "")])
            .unwrap()
            .list("group")
            .is_empty()
    );
}

#[test]
fn refuses_a_strict_flag_that_is_empty_or_unreadable() {
    let variable = |value| [("SEALED_SECRETS_PIN", value)];
    for (args, variables, want) in [
        (vec!["--pin="], vec![], "--pin is empty"),
        (vec!["--pin", "a", "--pin", ""], vec![], "--pin is empty"),
        (vec!["--pin", ""], variable("a").to_vec(), "--pin is empty"),
        (
            vec![],
            variable("\"a").to_vec(),
            "invalid value of SEALED_SECRETS_PIN: expected a comma-separated list",
        ),
        (
            vec!["--pin=a"],
            variable("\"a").to_vec(),
            "invalid value of SEALED_SECRETS_PIN: expected a comma-separated list",
        ),
    ] {
        let Err(Stop::Refused(text)) = parse(&args, &variables) else {
            unreachable!("{args:?}")
        };
        assert!(text.starts_with(want), "{text}");
    }
    let unset = parse(&[], &variable("")).unwrap();
    assert!(unset.list("pin").is_empty() && !unset.is_set("pin") && unset.warnings().is_empty());
    assert_eq!(
        parse(&["--pin=b"], &variable("a")).unwrap().list("pin"),
        ["a", "b"]
    );
}

#[test]
fn an_unreadable_variable_causes_a_warning_and_the_default_applies() {
    let flags = parse(&[], &[("SEALED_SECRETS_PERIOD", "30d")]).unwrap();
    assert_eq!(flags.duration("period"), SignedDuration::from_hours(720));
    let [warning] = flags.warnings() else {
        unreachable!("one warning")
    };
    assert_eq!(
        warning,
        "ignoring SEALED_SECRETS_PERIOD: its value is not valid; expected a duration like 720h or 1h30m"
    );
}

#[test]
fn names_the_argument_that_is_invalid_and_the_expected_value() {
    for (args, want) in [
        (vec!["--nope"], "unexpected argument '--nope'"),
        (vec!["secret.yaml"], "unexpected argument 'secret.yaml'"),
        (
            vec!["--raw=maybe"],
            "invalid value \"maybe\" for --raw: expected true or false",
        ),
        (
            vec!["--scope", "wide"],
            "invalid value \"wide\" for --scope: expected one of: strict, wider",
        ),
        (
            vec!["--count=-1"],
            "invalid value \"-1\" for --count: expected a non-negative integer",
        ),
        (
            vec!["--size", "big"],
            "invalid value \"big\" for --size: expected an integer",
        ),
        (vec!["--format"], "a value is required for '--format"),
    ] {
        let Err(Stop::Usage(text)) = parse(&args, &[]) else {
            unreachable!("{args:?}")
        };
        assert!(text.contains(want), "{text}");
    }
}

#[test]
fn help_omits_hidden_flags() {
    for word in ["--help", "-h"] {
        let Err(Stop::Help(text)) = parse(&[word], &[]) else {
            unreachable!("{word}")
        };
        assert!(
            text.contains("--period") && !text.contains("Hidden"),
            "{text}"
        );
    }
}
