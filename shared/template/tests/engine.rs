//! Tests that need no comparison with Go: secrecy, the budget, determinism, time and randomness as inputs.

#![allow(clippy::disallowed_methods, reason = "the test measures time")]
#![allow(clippy::expect_used, clippy::panic, reason = "in helpers of tests too")]

use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::SysRng;
use template::{
    Budget, Context, Data, ErrorKind, Interrupted, Limit, Meter, ParseBudget, RenderError,
    Template, Unmetered, cost,
};

fn render_within(budget: Budget, text: &str, data: &Data) -> Result<Vec<u8>, RenderError> {
    let template = Template::parse("app.conf", text).expect("the template parses");
    let mut rng = rand::rand_core::UnwrapErr(SysRng);
    let now = "2026-11-22T10:00:00Z".parse().expect("a time");
    template.render(
        data,
        &mut Context {
            budget,
            now,
            rng: &mut rng,
        },
    )
}

fn render(text: &str) -> Result<Vec<u8>, RenderError> {
    let data = Data::new([("password", "hunter2-canary"), ("user", "app")]);
    render_within(Budget::default(), text, &data)
}

fn text(template: &str) -> String {
    String::from_utf8(render(template).expect("the template renders")).expect("UTF-8")
}

/// Attack: an author makes template functions fail on a secret value, and reads the error.
#[test]
fn no_error_shows_a_value() {
    let templates = [
        "{{ fail .password }}",
        "{{ upper 1 .password }}",
        "{{ index . .password .password }}",
        "{{ mustToDate \"2006\" .password }}",
        "{{ mustFromJson .password }}",
        "{{ semver .password }}",
        "{{ urlParse (print \"%\" .password) }}",
        "{{ mustRegexMatch (print \"(\" .password) \"\" }}",
        "{{ .password.x }}",
        "{{ template .password }}",
        "{{ hunter2canary }}",
        "{{ \"hunter2-canary\\q\" }}",
        "{{ set . \"a\" .password }}",
        "{{ repeat 99999999 .password }}",
        "{{ decryptAES .password .password }}",
        "{{ genCAWithKey .password 1 .password }}",
    ];
    for template in templates {
        let message = if let Err(error) = Template::parse("app.conf", template) {
            format!("{error} {error:?}")
        } else {
            let error = render(template).expect_err(template);
            format!("{error} {error:?}")
        };
        assert!(!message.contains("hunter2"), "{template}: {message}");
    }
}

#[test]
fn debug_shows_no_value_and_no_text() {
    let data = Data::new([("password", "hunter2")]);
    let template = Template::parse("t", "hunter2 {{ .password }}").expect("the template parses");
    assert_eq!(
        format!("{data:?} {template:?}"),
        "Data { count: 1, .. } Template { name: \"t\", .. }"
    );
}

#[test]
fn errors_name_key_line_column_and_function() {
    let error = render("first\n  {{ .user | fail }}").expect_err("the rendering fails");
    let location = (&*error.template, error.line, error.column, error.function);
    assert_eq!(location, ("app.conf", 2, 14, Some("fail")));
    assert_eq!(error.kind, ErrorKind::Failed);
    let expected =
        "template \"app.conf\", line 2, column 14, function fail: the template called fail";
    assert!(error.to_string().starts_with(expected), "{error}");

    let error = Template::parse("k", "ok\n{{ if }}").expect_err("the template does not parse");
    assert_eq!((&*error.template, error.line, error.column), ("k", 2, 7));
}

/// Attack: an author exhausts the controller with templates that exceed each limit: steps, output, values, memory,
/// depth, keys, hashes.
#[test]
fn each_limit_is_enforced() {
    let cases = [
        (
            Limit::Steps,
            "{{ range until 1000 }}{{ range until 1000 }}{{ range until 1000 }}{{ end }}{{ end }}{{ end }}",
        ),
        (
            Limit::Steps,
            "{{ $l := until 5000 }}{{ range until 2000 }}{{ $_ := has -1 $l }}{{ end }}",
        ),
        (Limit::Steps, "{{ $l := until 60000 }}{{ uniq $l }}"),
        (
            Limit::Steps,
            "{{ $s := repeat 1000000 \"a\" }}{{ range until 10000 }}{{ $_ := regexMatch \"b\" $s }}{{ end }}",
        ),
        (
            Limit::Steps,
            "{{ range $i := until 10000 }}{{ $_ := regexMatch (print \"a\" $i) \"\" }}{{ end }}",
        ),
        (
            Limit::Output,
            "{{ $s := repeat 1000000 \"a\" }}{{ $s }}{{ $s }}",
        ),
        (Limit::Value, "{{ repeat 9000000 \"a\" }}"),
        (
            Limit::Value,
            "{{ printf \"%999999d%999999d%999999d%999999d%999999d\" 1 1 1 1 1 }}",
        ),
        (Limit::Value, "{{ until 99999999 }}"),
        (Limit::Value, "{{ seq 1 99999999999 }}"),
        (Limit::Value, "{{ randAlpha 99999999 }}"),
        (Limit::Value, "{{ randBytes 99999999999 }}"),
        (Limit::Value, "{{ indent 999999999999 \"\" }}"),
        (
            Limit::Value,
            "{{ $s := repeat 1000000 \"a\" }}{{ join $s (until 10) }}",
        ),
        (
            Limit::Value,
            "{{ $s := repeat 1000000 \"a\" }}{{ replace \"a\" $s $s }}",
        ),
        (
            Limit::Steps,
            "{{ $s := repeat 1000000 \"a\" }}{{ regexReplaceAll \"a\" $s \"$0$0$0$0$0$0\" }}",
        ),
        (
            Limit::Value,
            "{{ $s := repeat 1000000 \"a\" }}{{ toJson (list $s $s $s $s $s) }}",
        ),
        (
            Limit::Memory,
            "{{ range until 1000 }}{{ $_ := repeat 1000000 \"a\" }}{{ end }}",
        ),
        (
            Limit::Depth,
            "{{ define \"x\" }}{{ template \"x\" }}{{ end }}{{ template \"x\" }}",
        ),
        (
            Limit::Depth,
            "{{ $l := list }}{{ range until 1000 }}{{ $l = list $l }}{{ end }}",
        ),
        (
            Limit::Depth,
            "{{ $d := dict }}{{ $_ := set $d \"d\" $d }}{{ $d }}",
        ),
        (
            Limit::Depth,
            "{{ $d := dict }}{{ $_ := set $d \"d\" $d }}{{ toJson $d }}",
        ),
        (
            Limit::Depth,
            "{{ $d := dict }}{{ $_ := set $d \"d\" $d }}{{ deepCopy $d }}",
        ),
        (
            Limit::Depth,
            "{{ $d := dict }}{{ $_ := set $d \"d\" $d }}{{ $e := dict }}{{ $_ := set $e \"d\" $e }}{{ deepEqual $d $e }}",
        ),
        (
            Limit::Depth,
            "{{ fromJson (print (repeat 9999 \"[\") (repeat 9999 \"]\")) }}",
        ),
        (
            Limit::Keys,
            "{{ range until 9 }}{{ $_ := genPrivateKey \"ed25519\" }}{{ end }}",
        ),
        (
            Limit::Hashes,
            "{{ range until 33 }}{{ $_ := bcrypt \"x\" }}{{ end }}",
        ),
    ];
    for (limit, template) in cases {
        let start = Instant::now();
        let error = render(template).expect_err(template);
        assert_eq!(error.kind, ErrorKind::Limit(limit), "{template}");
        assert!(
            start.elapsed() < Duration::from_mins(1),
            "{template} took {:?}",
            start.elapsed()
        );
    }
}

/// Asserts that a template exceeds this limit within a minute.
fn expect_limit(limit: Limit, template: &str) {
    expect_limit_within(Budget::default(), limit, template);
}

fn expect_limit_within(budget: Budget, limit: Limit, template: &str) {
    let start = Instant::now();
    let error = render_within(budget, template, &Data::default()).expect_err(template);
    let excerpt: String = template.chars().take(200).collect();
    assert_eq!(error.kind, ErrorKind::Limit(limit), "{excerpt}");
    assert!(
        start.elapsed() < Duration::from_mins(1),
        "{excerpt} took {:?}",
        start.elapsed()
    );
}

/// Asserts that a template renders within a minute.
fn expect_quick(template: &str) {
    let start = Instant::now();
    render(template).expect("the template renders");
    assert!(
        start.elapsed() < Duration::from_mins(1),
        "{template} took {:?}",
        start.elapsed()
    );
}

/// Attack: an author exhausts the controller with a template that reads a large value repeatedly.
#[test]
fn charges_for_reading_large_values() {
    let cases = [
        "{{ $s := repeat 1000000 \"a\" }}{{ $l := list }}{{ range 300 }}{{ $l = append $l $s }}{{ end }}{{ sortAlpha $l }}",
        "{{ $m := until 60000 }}{{ $n := reverse $m }}{{ $l := list }}{{ range 300 }}{{ $l = append $l $m }}{{ end }}\
            {{ range 10000000 }}{{ $_ := has $n $l }}{{ end }}",
        "{{ $s := print \"1.0.0-\" (repeat 300000 \"a\") }}{{ $a := semver $s }}{{ $b := semver $s }}{{ $l := list }}\
            {{ range 300 }}{{ $l = append $l $a }}{{ end }}{{ range 10000000 }}{{ $_ := has $b $l }}{{ end }}",
        "{{ $v := semver (print \"1.0.0-\" (repeat 900000 \"a\")) }}{{ $_ := printf (repeat 100000 \"%.0[1]s\") $v }}",
        "{{ $s := list (repeat 4000000 \"a\") }}{{ $l := list }}{{ range 300 }}{{ $l = append $l $s }}{{ end }}{{ toStrings $l }}",
        "{{ $p := repeat 1000000 \"a\" }}{{ $a := dict }}{{ $b := dict }}{{ range 20 }}{{ $k := print $p . }}\
            {{ $_ := set $a $k 1 }}{{ $_ := set $b $k 1 }}{{ end }}{{ range 10000000 }}{{ $_ := merge $a $b }}{{ end }}",
        "{{ $d := dict \"opaque\" \"x\" \"userinfo\" (repeat 1000000 \"a\") }}{{ range 10000000 }}{{ $_ := urlJoin $d }}{{ end }}",
        "{{ $k := genPrivateKey \"ecdsa\" }}{{ $s := repeat 4000000 \"a\" }}{{ $l := list }}{{ range 300 }}\
            {{ $l = append $l $s }}{{ end }}{{ genSelfSignedCertWithKey \"x\" (list) $l 1 $k }}",
    ];
    for template in cases {
        expect_limit(Limit::Steps, template);
    }
}

/// Attack: an author exhausts the controller with the most expensive arguments of template functions.
#[test]
fn charges_for_the_most_expensive_arguments() {
    let divf = format!(
        "{{{{ $y := 1e-308 }}}}{{{{ divf 1 {} }}}}",
        "$y ".repeat(14_000)
    );
    let cases = [
        divf.as_str(),
        "{{ range 10000000 }}{{ $_ := semverCompare (repeat 5000 \"1 - 1 \") \"1.0.0\" }}{{ end }}",
        "{{ range 10000000 }}{{ $_ := semverCompare \">1\" (print \"1.0.0-\" (repeat 1000000 \"a\")) }}{{ end }}",
        "{{ $u := repeat 1000000 \"a\" }}{{ range 3 }}{{ $_ := derivePassword 1 \"pin\" \"a\" $u \"c\" }}{{ end }}",
        "{{ $l := repeat 100000 \".9\" }}{{ range 10000000 }}{{ $_ := dateInZone $l now \"Europe/Berlin\" }}{{ end }}",
        "{{ range 10000000 }}{{ $_ := printf (repeat 1000 \"%.1100[1]g\") 4.9e-320 }}{{ end }}",
        "{{ $s := repeat 100000 \"aA1\" }}{{ range 10000000 }}{{ $_ := kebabcase $s }}{{ end }}",
        "{{ $k := genPrivateKey \"ecdsa\" }}{{ range 10000000 }}{{ $_ := genCAWithKey \"x\" 1 $k }}{{ end }}",
    ];
    // A tenth of the steps, because unoptimized code takes ten times as long.
    let budget = Budget {
        steps: 200_000,
        ..Budget::default()
    };
    for template in cases {
        expect_limit_within(budget, Limit::Steps, template);
    }
    expect_limit(
        Limit::Memory,
        "{{ $l := until 40000 }}{{ range 10000000 }}{{ $_ := chunk 1 $l }}{{ end }}",
    );
    expect_quick("{{ $_ := trimAll (print (repeat 400000 \"x\") \"y\") (repeat 400000 \"y\") }}");
    expect_quick("{{ $_ := printf (repeat 1300000 \"%[%\") 1 }}");
}

/// Attack: an author exhausts the controller with regular expressions that are expensive to compile or search.
#[test]
fn charges_for_compiling_and_searching_expressions() {
    let cases = [
        "{{ $_ := regexFindAll \".*[^A-Z]|[A-Z]\" (repeat 1000000 \"A\") -1 }}",
        "{{ $_ := regexReplaceAll \"(.*[^A-Z])|[A-Z]\" (repeat 1000000 \"A\") \"$1\" }}",
        "{{ $_ := regexMatch \"([a-m]|[n-z])*[a-z][a-z]{900}!\" (randAlpha 1000000) }}",
        "{{ range $i := 10000 }}{{ $_ := regexMatch (print \"[a-z]{900}\" $i) \"\" }}{{ end }}",
        "{{ range $i := 10000 }}{{ $_ := regexMatch (print \"(?i)[\\\\Wa]\" $i) \"\" }}{{ end }}",
        "{{ $_ := regexMatch (repeat 1001 \"\\\\pL\") \"\" }}",
    ];
    for template in cases {
        expect_limit(Limit::Steps, template);
    }
    expect_limit(
        Limit::Value,
        "{{ regexReplaceAll (repeat 5000 \"()\") \"a\" \"$1\" }}",
    );
}

#[test]
fn everyday_expressions_on_large_texts_stay_within_the_budget() {
    let text = "{{ $s := repeat 20000 \"user@example.com, \" }}";
    for call in [
        "regexReplaceAll \"([a-z]+)@[a-z.]+\" $s \"$1\"",
        "regexSplit \" *, *\" $s -1",
        "regexFindAll \"[a-z]+|[@.]\" (trunc 200000 $s) -1",
        "regexReplaceAllLiteral \"[^a-z]\" $s \"\"",
        "regexMatch \"^(?:\\\\p{L}{1,64}[@., ]+)*$\" (trunc 1000 $s)",
        "regexFindAll \"\\\"[^\\\"]*\\\"|\\\\S+\" (repeat 8000 \"word \") -1",
        "regexReplaceAll \"(?m)^\\\\s+|\\\\s+$\" (repeat 4000 \"  word \\n\") \"\"",
    ] {
        expect_quick(&format!("{text}{{{{ $_ := {call} }}}}"));
    }
}

/// Attack: an author exhausts the controller with templates in which the lookup of a variable, template or field is
/// expensive.
#[test]
fn charges_for_template_lookups() {
    let name = "x".repeat(200_000);
    let cases = [
        format!(
            "{}{{{{ range 10000000 }}}}{{{{ if $ }}}}{{{{ end }}}}{{{{ end }}}}",
            "{{$a:=1}}".repeat(4_000)
        ),
        format!(
            "{{{{ define \"{name}\" }}}}{{{{ end }}}}{{{{ range 10000000 }}}}{{{{ template \"{name}\" }}}}{{{{ end }}}}"
        ),
        format!("{{{{ range 10000000 }}}}{{{{ if $.{name} }}}}{{{{ end }}}}{{{{ end }}}}"),
        format!(
            "{{{{ range 10000000 }}}}{{{{ if and {} }}}}{{{{ end }}}}{{{{ end }}}}",
            "1 ".repeat(10_000)
        ),
    ];
    for template in cases {
        expect_limit(Limit::Steps, &template);
    }
    expect_quick(
        "{{ $l := until 131000 }}{{ range $l }}{{ range $l }}{{ break }}{{ end }}{{ end }}",
    );
}

/// Attack: an author keeps the parser busy with a template of maximal size.
#[test]
fn a_large_template_is_parsed_in_linear_time() {
    let blank = format!(
        "{{{{ define \"x\" }}}}{}x{{{{ end }}}}",
        " ".repeat(500_000)
    );
    let cases = [
        [
            "{{$a:=1}}".repeat(3_000),
            "{{$b:=1}}".into(),
            "{{if $b}}{{end}}".repeat(1_800),
        ]
        .concat(),
        blank + &"{{define \"x\"}}{{end}}".repeat(3_000),
    ];
    for template in cases {
        let start = Instant::now();
        Template::parse("t", &template).expect("the template parses");
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "it took {:?}",
            start.elapsed()
        );
    }
}

/// Attack: an author nests dictionaries until the stack overflows, to crash the controller.
#[test]
fn a_long_chain_of_dicts_is_dropped_without_exhausting_the_stack() {
    let chain = "{{ $head := dict }}{{ $last := $head }}{{ range until 20000 }}{{ $new := dict }}\
        {{ $_ := set $last \"n\" $new }}{{ $last = $new }}{{ end }}{{ $head = 1 }}done";
    assert_eq!(text(chain), "done");
}

#[test]
fn the_deepest_allowed_nesting_fits_on_a_small_stack() {
    let nested = |open: &str, middle: &str, close: &str, count| {
        [open.repeat(count), middle.to_owned(), close.repeat(count)].concat()
    };
    let templates = [
        nested("{{ if true }}", "x", "{{ end }}", 99),
        format!("{{{{ {} }}}}", nested("(print ", "1", ")", 98)),
        format!("{{{{ {} }}}}", nested("(", "1", ")", 98)),
        nested(
            "{{ range list 1 }}{{ with . }}",
            "x",
            "{{ end }}{{ end }}",
            45,
        ),
        "{{ define \"x\" }}{{ if true }}{{ template \"x\" }}{{ end }}{{ end }}{{ template \"x\" }}"
            .to_owned(),
        nested("{{ if true }}", "x", "{{ end }}", 5000),
        nested("{{ if true }}a{{ else if false }}", "x", "{{ end }}", 99),
        format!("{{{{ {} }}}}", nested("(", "1", ")", 50_000)),
    ];
    let work = move || {
        for template in &templates {
            if let Ok(template) = Template::parse("t", template) {
                let mut rng = rand::rand_core::UnwrapErr(SysRng);
                let now = jiff::Timestamp::UNIX_EPOCH;
                let mut context = Context {
                    budget: Budget::default(),
                    now,
                    rng: &mut rng,
                };
                let _ = template.render(&Data::default(), &mut context);
            }
        }
    };
    // Worker threads of the async executor have two mebibytes of stack; half of that must suffice
    // for unoptimized code.
    let thread = std::thread::Builder::new()
        .stack_size(1 << 20)
        .spawn(work)
        .expect("a thread");
    thread.join().expect("no overflow");
}

#[test]
fn renders_calls_nested_to_an_ordinary_depth() {
    let call = ["{{ ", &"(print ".repeat(20), "1", &")".repeat(20), " }}"].concat();
    assert_eq!(text(&call), "1");
    let recursive = "{{ define \"d\" }}{{ . }}{{ if gt . 0 }}{{ template \"d\" (int (sub . 1)) }}{{ end }}{{ end }}{{ template \"d\" 20 }}";
    assert!(text(recursive).ends_with("3210"));
}

#[test]
fn detects_deterministic_templates() {
    let cases = [
        ("{{ .user | upper | sha256sum }}", true),
        ("plain", true),
        (
            "{{ derivePassword 1 \"long\" .password .user \"site\" }}",
            true,
        ),
        ("{{ dateModify \"1h\" (toDate \"2006\" \"2020\") }}", true),
        ("{{ now }}", false),
        ("{{ .user | randAlpha }}", false),
        ("{{ if false }}{{ uuidv4 }}{{ end }}", false),
        (
            "{{ define \"unused\" }}{{ (genCA \"x\" 1).Cert }}{{ end }}",
            false,
        ),
        (
            "{{ with .user }}{{ else }}{{ print (list (htpasswd \"a\" \"b\")) }}{{ end }}",
            false,
        ),
        ("{{ block \"b\" (bcrypt \"x\") }}{{ end }}", false),
        (
            "{{ range until 2 }}{{ else }}{{ shuffle \"ab\" }}{{ end }}",
            false,
        ),
        ("{{ date \"2006\" 0 }}", false),
        ("{{ encryptAES \"a\" \"b\" }}", false),
    ];
    for (template, is_deterministic) in cases {
        assert_eq!(
            Template::parse("t", template)
                .expect(template)
                .is_deterministic(),
            is_deterministic,
            "{template}"
        );
    }
}

#[test]
fn slow_work_is_bounded_by_the_template_text() {
    use template::cost::{BCRYPT, CURVE_KEY, RSA_2048, RSA_4096, SCRYPT};
    for (template, want) in [
        ("{{ .a | upper }}", 0),
        ("{{ range until 9 }}{{ . }}{{ end }}", 0),
        ("{{ bcrypt .a }}", BCRYPT),
        ("{{ .a | bcrypt }}", BCRYPT),
        (
            "{{ if .a }}{{ htpasswd \"u\" .a }}{{ else }}{{ bcrypt .a }}{{ end }}",
            2 * BCRYPT,
        ),
        ("{{ (genCA \"c\" 1).Cert }}", RSA_2048),
        (
            "{{ $ca := genCA \"c\" 1 }}{{ (genSignedCert \"s\" nil nil 1 $ca).Key }}",
            2 * RSA_2048,
        ),
        ("{{ genPrivateKey \"rsa\" }}", RSA_4096),
        ("{{ genPrivateKey \"ed25519\" }}", CURVE_KEY),
        ("{{ \"ed25519\" | genPrivateKey }}", RSA_4096),
        ("{{ genPrivateKey .kind }}", RSA_4096),
        ("{{ derivePassword 1 \"long\" .a \"u\" \"s\" }}", SCRYPT),
        ("{{ range bcrypt .a | list }}{{ . }}{{ end }}", BCRYPT),
        ("{{ range until 2 }}{{ bcrypt $.a }}{{ end }}", u64::MAX),
        (
            "{{ with .a }}{{ range until 2 }}{{ (genCA \"c\" 1).Key }}{{ end }}{{ end }}",
            u64::MAX,
        ),
        (
            "{{ define \"d\" }}{{ bcrypt . }}{{ end }}{{ template \"d\" .a }}",
            u64::MAX,
        ),
        (
            "{{ define \"d\" }}{{ . }}{{ end }}{{ template \"d\" .a }}",
            0,
        ),
    ] {
        let parsed = Template::parse("t", template).expect(template);
        assert_eq!(parsed.slow_work(), want, "{template}");
    }
}

#[test]
fn time_comes_from_the_caller() {
    assert_eq!(text("{{ now }}"), "2026-11-22 10:00:00 +0000 UTC");
    assert_eq!(
        text("{{ ago (toDate \"2006-01-02T15:04\" \"2026-11-22T08:58\") }}"),
        "1h2m0s"
    );
    assert_eq!(text("{{ date \"2006-01-02\" nil }}"), "2026-11-22");
    assert_eq!(text("{{ durationRound (toDate \"2006\" \"2020\") }}"), "6y");
    assert_eq!(
        text("{{ dateInZone \"15:04 MST\" now \"Europe/Berlin\" }}"),
        "11:00 CET"
    );
}

#[test]
fn randomness_comes_from_the_caller() {
    let rendered = |seed: u64| {
        let text = "{{ randAlphaNum 20 }} {{ uuidv4 }} {{ htpasswd \"u\" \"p\" }} {{ shuffle \"abcdefgh\" }} {{ randInt 0 1000 }}";
        let template = Template::parse("t", text).expect("the template parses");
        let mut rng = SplitMix64(seed);
        let now = jiff::Timestamp::UNIX_EPOCH;
        template
            .render(
                &Data::default(),
                &mut Context {
                    budget: Budget::default(),
                    now,
                    rng: &mut rng,
                },
            )
            .expect("the template renders")
    };
    assert_eq!(rendered(1), rendered(1));
    assert_ne!(rendered(1), rendered(2));
    let _ = (SysRng, SplitMix64::from_seed([0; 8]));
}

/// A reproducible random source, for tests only.
struct SplitMix64(u64);

impl SeedableRng for SplitMix64 {
    type Seed = [u8; 8];

    fn from_seed(seed: Self::Seed) -> Self {
        Self(u64::from_le_bytes(seed))
    }
}

impl rand::TryRng for SplitMix64 {
    type Error = std::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        Ok(u32::try_from(self.try_next_u64()? >> 32).expect("32 bits"))
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        Ok(mixed ^ mixed >> 31)
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error> {
        for chunk in bytes.chunks_mut(8) {
            let more = self.try_next_u64()?.to_le_bytes();
            chunk.copy_from_slice(&more[..chunk.len()]);
        }
        Ok(())
    }
}

impl rand::TryCryptoRng for SplitMix64 {}

#[test]
fn a_password_hash_verifies_with_its_password() {
    let line = text("{{ htpasswd \"app\" .password }}");
    let hash = line.strip_prefix("app:").expect("the user first");
    assert!(bcrypt::verify("hunter2-canary", hash).expect("a hash"));
    assert!(!bcrypt::verify("other", hash).expect("a hash"));
}

#[test]
fn bytes_that_are_not_text_pass_through() {
    let bytes: Vec<u8> = (0..=255).collect();
    let data = Data::new([("b", bytes.clone())]);
    let templates = [
        "{{ .b }}",
        "{{ printf \"%s\" .b }}",
        "{{ b64enc .b | b64dec }}",
        "{{ b32enc .b | b32dec }}",
        "{{ print .b }}",
        "{{ trunc 256 .b }}",
        "{{ index . \"b\" }}",
        "{{ list .b | join \"\" }}",
        "{{ (dict \"x\" .b).x }}",
        "{{ define \"x\" }}{{ . }}{{ end }}{{ template \"x\" .b }}",
        "{{ encryptAES \"k\" .b | decryptAES \"k\" }}",
        "{{ default \"x\" .b }}",
        "{{ cat .b }}",
        "{{ .b | toString }}",
        "{{ replace \"zzz\" \"\" .b }}",
    ];
    for template in templates {
        assert_eq!(
            render_within(Budget::default(), template, &data).expect(template),
            bytes,
            "{template}"
        );
    }
}

fn render_in_turn(texts: impl IntoIterator<Item = &'static str>, data: &Data) -> Vec<Vec<u8>> {
    let mut context = Context {
        budget: Budget::default(),
        now: jiff::Timestamp::UNIX_EPOCH,
        rng: &mut rand::rand_core::UnwrapErr(SysRng),
    };
    let render = |text| {
        let template = Template::parse("t", text).expect("the template parses");
        template
            .render(data, &mut context)
            .expect("the template renders")
    };
    texts.into_iter().map(render).collect()
}

fn many_items(count: usize) -> Data {
    Data::new((0..count).map(|i| (format!("t{i}"), "v")))
}

/// Attack: an author writes thousands of trivial templates and as many values, so that copies of the values for each
/// template exhaust the controller.
#[test]
fn the_cost_of_many_templates_is_linear_in_their_number() {
    const COUNT: usize = 30_000;
    // Each copy of the values would cost a step for each of them, and soon exhaust the budget.
    let results = render_in_turn(std::iter::repeat_n("{{ .t1 }}", COUNT), &many_items(COUNT));
    assert_eq!(results.len(), COUNT);
}

/// Attack: an author writes templates that change the map of values, to affect other templates, or to have the values
/// copied for each template.
#[test]
fn a_template_that_changes_its_dot_affects_no_other_and_is_charged_for_the_copy() {
    let change = "{{ $_ := merge (dict \"a\" .) (dict \"a\" (split \",\" \"x\")) }}{{ len . }}";
    let results = render_in_turn([change, change, "{{ len . }}"], &many_items(9));
    assert_eq!(results, [b"10".to_vec(), b"10".to_vec(), b"9".to_vec()]);

    let data = many_items(10_000);
    let mut context = Context {
        budget: Budget::default(),
        now: jiff::Timestamp::UNIX_EPOCH,
        rng: &mut rand::rand_core::UnwrapErr(SysRng),
    };
    let template = Template::parse("t", change).expect("the template parses");
    let is_ok = |_: &usize| template.render(&data, &mut context).is_ok();
    let rendered = (0..1_000).take_while(is_ok).count();
    assert!(rendered < 200, "{rendered}");
}

/// A meter that records the cost of each operation, and ends the work after `max_operations`.
struct Recorder {
    spent: Vec<u64>,
    max_operations: usize,
}

impl Recorder {
    fn new(max_operations: usize) -> Self {
        Self {
            spent: Vec::new(),
            max_operations,
        }
    }
}

impl Meter for Recorder {
    fn spend(&mut self, microseconds: u64) -> Result<(), Interrupted> {
        if self.spent.len() == self.max_operations {
            return Err(Interrupted);
        }
        self.spent.push(microseconds);
        Ok(())
    }
}

fn render_metered(text: &str, max_operations: usize) -> (Result<Vec<u8>, RenderError>, Vec<u64>) {
    let template = Template::parse("app.conf", text).expect("the template parses");
    let mut meter = Recorder::new(max_operations);
    let mut context = Context {
        budget: Budget::default(),
        now: jiff::Timestamp::UNIX_EPOCH,
        rng: &mut rand::rand_core::UnwrapErr(SysRng),
    };
    let result = template.render_within(&Data::default(), &mut context, &mut meter);
    (result, meter.spent)
}

/// Attack: an author writes thousands of small templates, each too short for one report to the meter, so that the work
/// is neither charged nor interrupted.
#[test]
fn many_small_templates_are_metered_at_their_cost() {
    const COUNT: usize = 5_000;
    let mut meter = Recorder::new(usize::MAX);
    let mut budget = ParseBudget::new(&mut meter);
    let templates: Vec<Template> = (0..COUNT)
        .map(|_| Template::parse_within("t", "{{ .t1 }}", &mut budget))
        .map(|parsed| {
            parsed
                .expect("parsing is not interrupted")
                .expect("the template parses")
        })
        .collect();
    let parsing = total_of_short_operations(&meter.spent);
    assert!(parsing >= 8 * COUNT as u64, "{parsing}");

    let mut meter = Recorder::new(usize::MAX);
    let mut context = Context {
        budget: Budget::default(),
        now: jiff::Timestamp::UNIX_EPOCH,
        rng: &mut rand::rand_core::UnwrapErr(SysRng),
    };
    let data = many_items(COUNT);
    for template in &templates {
        let result = template.render_within(&data, &mut context, &mut meter);
        result.expect("the template renders");
    }
    let rendering = total_of_short_operations(&meter.spent);
    assert!(rendering >= 5 * COUNT as u64, "{rendering}");
}

fn total_of_short_operations(spent: &[u64]) -> u64 {
    assert!(spent.iter().all(|cost| *cost < 20_000), "{spent:?}");
    spent.iter().sum()
}

/// Attack: an author writes templates that take a long time to parse and fill the memory with their trees.
#[test]
fn the_templates_of_an_object_have_a_limited_number_of_tokens() {
    let parens = format!("{{{{ {}1{} }}}}", "(".repeat(98), ")".repeat(98));
    for text in [
        "{{1}}".repeat(240_000),
        parens.repeat(6_000),
        format!("{{{{ print {}}}}}", "1 ".repeat(600_000)),
        format!("{{{{ {} }}}}", ".a".repeat(600_000)),
    ] {
        let error = Template::parse("t", &text).expect_err("too many tokens");
        assert!(error.reason.contains("more than 30000 tokens"), "{error}");
        let mut meter = Recorder::new(usize::MAX);
        let mut budget = ParseBudget::new(&mut meter);
        let parsed = Template::parse_within("t", &text, &mut budget);
        assert_eq!(
            parsed.expect("not interrupted").expect_err("refused"),
            error
        );
        assert!(budget.is_used_up());
        let cost = total_of_short_operations(&meter.spent);
        assert!(cost < 30_000, "{cost}");
    }
    let mut meter = Unmetered;
    let mut budget = ParseBudget::new(&mut meter);
    let count = (0..20_000)
        .take_while(|_| {
            let parsed = Template::parse_within("t", "v", &mut budget);
            parsed.expect("not interrupted").is_ok()
        })
        .count();
    assert_eq!(count, 15_000, "a plain text has two tokens");
}

#[test]
fn the_meter_can_interrupt_parsing() {
    for max_operations in [0, 1] {
        let mut meter = Recorder::new(max_operations);
        let mut budget = ParseBudget::new(&mut meter);
        let parsed = Template::parse_within("t", "{{ .a }}", &mut budget);
        assert_eq!(parsed.err(), Some(Interrupted), "{max_operations}");
    }
}

/// Attack: an author exhausts the controller with the slowest template functions.
#[test]
fn each_slow_function_is_metered() {
    for (call, want) in [
        ("genPrivateKey \"rsa\"", cost::RSA_4096),
        ("genPrivateKey \"ecdsa\"", cost::CURVE_KEY),
        ("genPrivateKey \"ed25519\"", cost::CURVE_KEY),
        ("genCA \"x\" 1", cost::RSA_2048),
        ("genSelfSignedCert \"x\" nil nil 1", cost::RSA_2048),
        ("bcrypt \"x\"", cost::BCRYPT),
        ("htpasswd \"u\" \"x\"", cost::BCRYPT),
        ("derivePassword 1 \"long\" \"a\" \"b\" \"c\"", cost::SCRYPT),
    ] {
        // The work does not even begin, so its duration does not matter.
        let (result, spent) = render_metered(&format!("{{{{ {call} }}}}"), 0);
        let kind = result.expect_err(call).kind;
        assert_eq!(kind, ErrorKind::Limit(Limit::Interrupted), "{call}");
        assert!(spent.is_empty());
        if want < cost::RSA_2048 {
            let (result, spent) = render_metered(&format!("{{{{ {call} }}}}"), 2);
            assert!(result.is_ok(), "{call}");
            assert_eq!(spent.first(), Some(&want), "{call}");
        }
    }
    let (result, spent) = render_metered("{{ range 100000 }}{{ print 1 2 }}{{ end }}", usize::MAX);
    assert!(result.is_ok());
    assert!(spent.len() > 10 && spent.iter().all(|cost| *cost < 3_000));
}

/// Attack: an author exceeds the limit with seven RSA keys and 31 password hashes in one object, each kind just below
/// its own limit.
#[test]
fn keys_and_hashes_share_one_limit() {
    let greedy = "{{ range 31 }}{{ $_ := bcrypt \"x\" }}{{ end }}{{ range 7 }}{{ genPrivateKey \"rsa\" }}{{ end }}";
    let budget = Budget {
        work: 3 * cost::BCRYPT + cost::RSA_2048,
        ..Budget::default()
    };
    expect_limit_within(budget, Limit::Work, greedy);
    let allowed = [
        (8, cost::CURVE_KEY),
        (5, cost::RSA_4096),
        (8, cost::RSA_2048),
        (32, cost::BCRYPT),
    ];
    for (count, cost) in allowed {
        assert!(count * cost <= Budget::default().work, "{count} × {cost}");
    }
    assert!(31 * cost::BCRYPT + 7 * cost::RSA_4096 > Budget::default().work);
}

#[test]
fn a_template_sees_values_in_groups() {
    let mut data = Data::default();
    for (group, key, value) in [
        ("db", "user", "app"),
        ("db", "password", "x"),
        ("api", "key", "k"),
    ] {
        data.insert_in_group(group, key, value);
    }
    for (text, want) in [
        (
            "{{ .db.user }}:{{ .db.password }}@{{ .api.key }}",
            "app:x@k",
        ),
        ("{{ with .db }}{{ .user }}{{ end }}", "app"),
        (
            "{{ range $k, $v := .db }}{{ $k }}={{ $v }} {{ end }}",
            "password=x user=app ",
        ),
        ("{{ $_ := set . \"self\" . }}{{ .self.db.user }}", "app"),
        ("{{ index . \"db\" \"user\" }}", "app"),
    ] {
        for _ in 0..2 {
            let result =
                render_within(Budget::default(), text, &data).expect("the template renders");
            assert_eq!(String::from_utf8(result).expect("UTF-8"), want, "{text}");
        }
    }
}

#[test]
fn finds_the_nested_fields_that_a_template_inserts() {
    for (text, want) in [
        (
            "{{ .db.user }}{{ $.api.key | quote }}",
            &["api.key", "db.user"][..],
        ),
        (
            "{{ .db.user.x }}{{ .db }}{{ index .db \"y\" }}",
            &["db.user"],
        ),
        ("{{ with .db }}{{ .user }}{{ end }}", &[]),
        (
            "{{ .db.port | default \"5432\" }}{{ if .db.host }}{{ .db.host }}{{ end }}",
            &[],
        ),
        ("{{ if .db }}{{ .db.host }}{{ end }}", &["db.host"]),
    ] {
        let template = Template::parse("t", text).expect("the template parses");
        let found = template.inserted_nested_fields();
        let found: Vec<String> = found.into_iter().map(|(a, b)| format!("{a}.{b}")).collect();
        assert_eq!(found, want, "{text}");
    }
}
