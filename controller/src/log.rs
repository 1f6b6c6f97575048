//! Writes log lines in upstream's format: `time= level= msg= …` (Go's slog text), or one JSON object per line. WARN and
//! ERROR go to stderr; the other levels go to stdout if [`Config::info_to_stdout`] is set, and otherwise to stderr too.
//!
//! Only events of this crate and of the leader election are logged, since libraries log connections and transferred
//! bytes.

use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::str::FromStr;

use jiff::{Timestamp, tz::TimeZone};
use serde_json::{Map, Value as Json};
use shared::visible;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::Registry;

/// The configuration of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// The lowest level that is logged.
    pub level: Threshold,
    /// The format of a line.
    pub format: Format,
    /// Whether levels up to INFO go to stdout. If false, everything goes to stderr.
    pub info_to_stdout: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            level: Threshold::default(),
            format: Format::default(),
            info_to_stdout: true,
        }
    }
}

/// The lowest level that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Threshold(Level);

impl Default for Threshold {
    fn default() -> Self {
        Self(Level::INFO)
    }
}

/// The string is not a log level.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown level {0:?}; use DEBUG, INFO, WARN or ERROR")]
pub struct UnknownLevel(String);

impl FromStr for Threshold {
    type Err = UnknownLevel;

    fn from_str(text: &str) -> Result<Self, UnknownLevel> {
        match text.to_ascii_uppercase().as_str() {
            "DEBUG" => Ok(Self(Level::DEBUG)),
            "INFO" => Ok(Self(Level::INFO)),
            "WARN" => Ok(Self(Level::WARN)),
            "ERROR" => Ok(Self(Level::ERROR)),
            _ => Err(UnknownLevel(text.to_owned())),
        }
    }
}

/// The format of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// `key=value` pairs.
    #[default]
    Text,
    /// A JSON object.
    Json,
}

/// The string is not a log format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown format {0:?}; use text or json")]
pub struct UnknownFormat(String);

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(UnknownFormat(text.to_owned())),
        }
    }
}

/// Installs the logger of this process. Only the first call has an effect.
pub fn start(config: Config) {
    let subscriber = Registry::default().with(LogLayer(config));
    let _ = tracing::subscriber::set_global_default(subscriber);
}

struct LogLayer(Config);

impl<S: Subscriber> Layer<S> for LogLayer {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        let crate_name = metadata.target().split("::").next();
        let is_own = matches!(crate_name, Some("controller" | "lease"));
        is_own && *metadata.level() <= self.0.level.0
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let level = *event.metadata().level();
        let mut fields = Fields::default();
        event.record(&mut fields);
        let line = format_line(self.0.format, Timestamp::now(), level, &fields);
        // Errors such as a closed pipe are ignored: the controller continues without its log.
        let _ = if self.0.info_to_stdout && level >= Level::INFO {
            std::io::stdout().lock().write_all(line.as_bytes())
        } else {
            std::io::stderr().lock().write_all(line.as_bytes())
        };
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    fields: Vec<(&'static str, String)>,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        let text = visible(&text).into_owned();
        match field.name() {
            "message" => self.message = text,
            name => self.fields.push((name, text)),
        }
    }
}

fn format_line(format: Format, time: Timestamp, level: Level, fields: &Fields) -> String {
    let time = local_time(time);
    let head = [
        ("time", time.as_str()),
        ("level", level.as_str()),
        ("msg", fields.message.as_str()),
    ];
    let fields = fields
        .fields
        .iter()
        .map(|(name, text)| (*name, text.as_str()));
    let pairs = head.into_iter().chain(fields);
    match format {
        Format::Text => text_line(pairs),
        Format::Json => json_line(pairs),
    }
}

fn text_line<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut line = String::new();
    for (name, text) in pairs {
        let space = if line.is_empty() { "" } else { " " };
        let _ = if needs_quotes(text) {
            write!(line, "{space}{name}={text:?}")
        } else {
            write!(line, "{space}{name}={text}")
        };
    }
    line.push('\n');
    line
}

fn needs_quotes(text: &str) -> bool {
    let is_special = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '=');
    text.is_empty() || text.contains(is_special)
}

fn json_line<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let object: Map<String, Json> = pairs
        .map(|(name, text)| (name.to_owned(), text.into()))
        .collect();
    format!("{}\n", Json::Object(object))
}

/// Returns the time in RFC 3339 with milliseconds, in the machine's time zone.
fn local_time(time: Timestamp) -> String {
    let zoned = time.to_zoned(TimeZone::system());
    if zoned.offset().is_zero() {
        format!("{time:.3}")
    } else {
        zoned.strftime("%Y-%m-%dT%H:%M:%S%.3f%:z").to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields() -> Fields {
        Fields {
            message: "registered private key".into(),
            fields: vec![
                ("secretname", "k1".into()),
                ("error", "line 1\n\"x\"".into()),
                ("empty", String::new()),
            ],
        }
    }

    fn without_time(line: &str) -> &str {
        line.split_once("level").unwrap().1
    }

    #[test]
    fn text_lines_equal_those_of_go_slog() {
        let line = format_line(Format::Text, Timestamp::UNIX_EPOCH, Level::INFO, &fields());
        let want = "=INFO msg=\"registered private key\" secretname=k1 \
                    error=\"line 1\\n\\\"x\\\"\" empty=\"\"\n";
        assert!(line.starts_with("time=19"), "{line}");
        assert_eq!(without_time(&line), want);
    }

    #[test]
    fn each_json_line_is_one_object() {
        let line = format_line(Format::Json, Timestamp::UNIX_EPOCH, Level::WARN, &fields());
        assert_eq!(line.lines().count(), 1);
        let want = "\":\"WARN\",\"msg\":\"registered private key\",\"secretname\":\"k1\",\
                    \"error\":\"line 1\\n\\\"x\\\"\",\"empty\":\"\"}\n";
        assert_eq!(without_time(&line), want);
    }

    #[test]
    fn parses_levels_and_formats() {
        assert_eq!("debug".parse(), Ok(Threshold(Level::DEBUG)));
        assert_eq!(
            "LOUD".parse::<Threshold>(),
            Err(UnknownLevel("LOUD".to_owned()))
        );
        assert_eq!("json".parse(), Ok(Format::Json));
        assert_eq!(
            "xml".parse::<Format>(),
            Err(UnknownFormat("xml".to_owned()))
        );
    }
}
