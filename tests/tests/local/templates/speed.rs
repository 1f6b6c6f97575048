//! Compares how long this project's engine and Go's take to render a configuration file of 4 KB with ten values.
//!
//! `cargo test --release -p tests --test local templates::speed -- --nocapture` prints the times and their ratio and
//! fails above 100 µs. An unoptimized build is not representative and may take 20 ms.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::fmt::Write;
use std::time::{Duration, Instant};

use template::{Budget, Context, Data, Template};

use super::upstream::{self, Upstream, Values};

const REPEAT: u32 = 50;

/// The number of batches. Only the fastest batch counts, since the other batches include other load on the machine.
const BATCHES: usize = 10;

/// Returns ten sections of about 400 bytes with conditions, loops and the functions that configuration files use, and
/// padding up to 4 KiB.
fn config() -> String {
    let mut text = String::from("# generated\n{{ $name := .value0 | upper }}");
    for at in 0..10 {
        write!(
            text,
            "[section.{at}]\nname = {{{{ $name | quote }}}}\nurl = postgres://app:{{{{ .value{at} | urlquery }}}}@db{at}:5432/app\n\
             {{{{- if .value{at} }}}}\npassword = {{{{ .value{at} | toRawJson }}}}\n{{{{- else }}}}\npassword = \"\"\n{{{{- end }}}}\n\
             hosts = [{{{{ range $i, $h := splitList \",\" \"a,b,c\" }}}}{{{{ if $i }}}}, {{{{ end }}}}{{{{ printf \"%s-%02d\" $h $i | quote }}}}{{{{ end }}}}]\n\
             # an explanatory comment that every file of this kind contains, section {at}\n"
        )
        .expect("a String");
    }
    text + &"# padding\n".repeat((4096 - text_len(10)) / 10)
}

/// Returns the approximate length of the sections of [`config`] in bytes.
fn text_len(sections: usize) -> usize {
    sections * 385
}

fn values() -> Values {
    (0..10)
        .map(|at| {
            (
                format!("value{at}"),
                format!("s3cret/{at}&\"quoted\" value").into_bytes(),
            )
        })
        .collect()
}

fn measure(text: &str, values: &Values) -> (Vec<u8>, Duration) {
    let template = Template::parse("t", text).expect("the template parses");
    let data = Data::new(values.iter().map(|(key, value)| (key, value.clone())));
    let mut rng = shared::random::system();
    let mut render = || {
        let mut context = Context {
            budget: Budget::default(),
            now: jiff::Timestamp::UNIX_EPOCH,
            rng: &mut rng,
        };
        template
            .render(&data, &mut context)
            .expect("the template renders")
    };
    let out = render();
    let batch = |_| {
        let start = Instant::now();
        for _ in 0..REPEAT {
            render();
        }
        start.elapsed() / REPEAT
    };
    (out, (0..BATCHES).map(batch).min().unwrap_or_default())
}

#[test]
fn renders_a_file_of_4_kb_in_less_than_100_microseconds() {
    let (text, values) = (config(), values());
    assert!((3800..4400).contains(&text.len()), "{} bytes", text.len());
    let (out, own_time) = measure(&text, &values);
    let request = serde_json::json!({
        "name": "t", "template": text, "data": upstream::encoded(&values), "repeat": REPEAT,
    });
    let mut upstream = Upstream::start();
    let go_time = (0..BATCHES).map(|_| upstream.ask(&request).nanos).min();
    let go_time = Duration::from_nanos(go_time.unwrap_or_default());
    let ratio = go_time.as_secs_f64() / own_time.as_secs_f64();
    println!(
        "{} bytes → {} bytes: own {own_time:?}, Go's {go_time:?}, {ratio:.2} times as fast",
        text.len(),
        out.len()
    );
    let limit = Duration::from_micros(if cfg!(debug_assertions) { 20_000 } else { 100 });
    assert!(own_time < limit, "{own_time:?}");
}
