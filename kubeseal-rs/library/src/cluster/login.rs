//! Authenticates with the credential plug-in or the token file of a kubeconfig.
//!
//! This module replaces `kube`'s own implementation, which reads the plug-in's output without limit, panics on a token
//! that does not fit in a header, runs the plug-in several times, and sends the line break at the end of a token file.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use jiff::{SignedDuration, Timestamp};
use kube::config::{AuthInfo, ExecConfig, ExecInteractiveMode};
use serde_json::{Value as Json, json};
use shared::manifest::{self, Reading, Shape};
use shared::readable;
use zeroize::Zeroizing;

use super::ClusterError;
use super::error_text::plug_in_failure;
use crate::bounded::{self, Kind};
use crate::shown::ShowPath as _;

/// How long before its expiry a token is replaced.
const MARGIN: SignedDuration = SignedDuration::from_secs(60);
/// The maximum number of bytes read from a plug-in's stderr. If the plug-in fails, one line of it is shown.
const MAX_STDERR: u64 = 64 * 1024;

/// How long a token from a file is used before the file is read again, as in client-go.
const FILE_PERIOD: SignedDuration = SignedDuration::from_secs(60);

/// The source of tokens, and the newest token.
pub(super) struct Login {
    source: Source,
    token: Mutex<Token>,
}

enum Source {
    PlugIn(Box<ExecConfig>),
    File(PathBuf),
}

impl Source {
    fn next_token(&self, now: Timestamp) -> Result<Token, String> {
        match self {
            Self::PlugIn(plug_in) => run(plug_in, now).map(|credential| credential.token),
            Self::File(path) => read_token(path, now),
        }
    }
}

#[derive(Default)]
struct Token {
    header: Option<HeaderValue>,
    until: Option<Timestamp>,
}

/// The output of a plug-in.
struct Credential {
    token: Token,
    /// Client certificate and key, in PEM.
    identity: Option<(String, String)>,
}

impl Login {
    /// Reads the token file, or runs the plug-in. Returns `None` if there is neither, or if the user's entry contains a
    /// token, a user name and password, or an auth provider. Stores a client certificate of the plug-in in the user's
    /// entry.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read or contains no token, if the plug-in fails or outputs no credential, or if a
    /// token is malformed.
    pub(super) fn new(user: &mut AuthInfo, now: Timestamp) -> Result<Option<Self>, ClusterError> {
        check_token(user)?;
        let has_other_credentials = user.auth_provider.is_some()
            || user.username.is_some() && user.password.is_some()
            || user.token.is_some();
        let plug_in = user.exec.take().filter(|_| !has_other_credentials);
        let file = user.token_file.take().filter(|_| !has_other_credentials);
        match (file, plug_in) {
            (Some(path), _) if !path.is_empty() => Self::by_file(path.into(), now).map(Some),
            (_, Some(plug_in)) => Self::by_plug_in(plug_in, user, now).map(Some),
            (_, None) => Ok(None),
        }
    }

    fn by_file(path: PathBuf, now: Timestamp) -> Result<Self, ClusterError> {
        let token = read_token(&path, now).map_err(ClusterError::Client)?;
        Ok(Self {
            source: Source::File(path),
            token: Mutex::new(token),
        })
    }

    fn by_plug_in(
        plug_in: ExecConfig,
        user: &mut AuthInfo,
        now: Timestamp,
    ) -> Result<Self, ClusterError> {
        let credential = run(&plug_in, now).map_err(ClusterError::Client)?;
        if let Some((certificate, key)) = credential.identity {
            user.client_certificate_data = Some(STANDARD.encode(certificate));
            user.client_key_data = Some(STANDARD.encode(key).into());
        }
        Ok(Self {
            source: Source::PlugIn(Box::new(plug_in)),
            token: Mutex::new(credential.token),
        })
    }

    /// Returns the `Authorization` header, or `None` if a client certificate authenticates the
    /// user.
    ///
    /// # Errors
    ///
    /// Fails if the token expires within a minute and the plug-in outputs no new token. A token file that cannot be
    /// read again is not an error: some programs remove their token file.
    pub(super) fn header(&self, now: Timestamp) -> Result<Option<HeaderValue>, String> {
        let mut token = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        if token.until.is_some_and(|until| now + MARGIN >= until) {
            match (&self.source, self.source.next_token(now)) {
                (_, Ok(next)) => *token = next,
                (Source::File(_), Err(_)) => {}
                (Source::PlugIn(_), Err(why)) => return Err(why),
            }
        }
        Ok(token.header.clone())
    }
}

/// Reads the token in a file, without spaces and line breaks around it.
fn read_token(path: &Path, now: Timestamp) -> Result<Token, String> {
    let name = path.shown();
    let text = File::open(path).and_then(|file| bounded::read(file, 0, Kind::Credential));
    let text = text.map_err(|why| format!("cannot read the token file {name}: {why}"))?;
    let text = std::str::from_utf8(&text).unwrap_or_default().trim();
    if text.is_empty() {
        return Err(format!("the token file {name} contains no token"));
    }
    let header = header(text).map_err(|why| format!("the token in {name} {why}"))?;
    Ok(Token {
        header: Some(header),
        until: Some(now + FILE_PERIOD + MARGIN),
    })
}

/// Rejects a malformed token of the kubeconfig, on which `kube` panics.
fn check_token(user: &AuthInfo) -> Result<(), ClusterError> {
    if user.token.is_none() {
        return Ok(());
    }
    let as_json = serde_json::to_value(user).unwrap_or_default();
    let token = as_json["token"].as_str().map(str::to_owned);
    match token.map(|token| header(&token)) {
        Some(Err(why)) => Err(ClusterError::Client(format!(
            "the token of the kubeconfig {why}"
        ))),
        _ => Ok(()),
    }
}

fn header(token: &str) -> Result<HeaderValue, &'static str> {
    let header = HeaderValue::from_str(&format!("Bearer {token}"));
    let mut header = header.map_err(|_| "contains a control character, such as a line break")?;
    header.set_sensitive(true);
    Ok(header)
}

const PLUG_IN: &str = "the exec plug-in of the kubeconfig";

fn run(plug_in: &ExecConfig, now: Timestamp) -> Result<Credential, String> {
    let (status, output, stderr) = run_command(plug_in)?;
    if !status.success() {
        return Err(plug_in_failure(status, &stderr));
    }
    let credential = parse_output(&output).unwrap_or_default();
    let status = &credential["status"];
    let text = |field: &str| status[field].as_str().map(str::to_owned);
    let token = text("token").map(Zeroizing::new);
    let identity = text("clientCertificateData").zip(text("clientKeyData"));
    if token.is_none() && identity.is_none() {
        return Err(format!(
            "{PLUG_IN} did not output an ExecCredential with a token or certificate"
        ));
    }
    let header = token.map(|token| header(&token)).transpose();
    let header = header.map_err(|why| format!("the token of {PLUG_IN} {why}"))?;
    let until = status["expirationTimestamp"]
        .as_str()
        .map(parse_time)
        .transpose();
    let until = until.map_err(|_| format!("{PLUG_IN} output an invalid expirationTimestamp"))?;
    // Ignore an expiry in the past or within a minute: it would run the plug-in before each request.
    let until = until.filter(|until| now + MARGIN < *until);
    Ok(Credential {
        token: Token { header, until },
        identity,
    })
}

/// Parses a time. A time that only Go can represent, such as the end of the year 9999, becomes the nearest time that
/// [`Timestamp`] can represent.
fn parse_time(text: &str) -> Result<Timestamp, jiff::Error> {
    let mut time = Json::from(text);
    readable::adapt_time(&mut time);
    time.as_str().unwrap_or(text).parse()
}

/// Parses JSON, or YAML, which some plug-ins write.
fn parse_output(output: &[u8]) -> Option<Json> {
    let documents = manifest::read(output).ok()?;
    let root = &documents.first()?.root;
    Reading::default().json(root, Shape::Any).ok()
}

/// The exit status, stdout and stderr of a plug-in.
type Output = (ExitStatus, Zeroizing<Vec<u8>>, Vec<u8>);

fn run_command(plug_in: &ExecConfig) -> Result<Output, String> {
    let not_started = |cause: io::Error| format!("cannot start {PLUG_IN}: {cause}");
    let mut child = plug_in_command(plug_in)?.spawn().map_err(not_started)?;
    let stderr = child.stderr.take();
    let stderr = std::thread::spawn(move || {
        let mut text = Vec::new();
        let _ = stderr.map(|stderr| stderr.take(MAX_STDERR).read_to_end(&mut text));
        text
    });
    let output = match child.stdout.take() {
        Some(stdout) => bounded::read(stdout, 0, Kind::Credential),
        None => Ok(Zeroizing::default()),
    };
    let output = output.map_err(|why| {
        kill(&mut child);
        format!("cannot read the output of {PLUG_IN}: {why}")
    })?;
    let status = child.wait().map_err(not_started)?;
    Ok((status, output, stderr.join().unwrap_or_default()))
}

fn kill(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// Returns whether a plug-in may prompt the user: only on a terminal, as in client-go, since piped input may be the
/// value to seal. Fails if the plug-in requires a terminal and stdin is not one.
fn is_interactive(mode: Option<&ExecInteractiveMode>, is_terminal: bool) -> Result<bool, String> {
    match mode {
        Some(ExecInteractiveMode::Never) => Ok(false),
        Some(ExecInteractiveMode::Always) if !is_terminal => Err(format!(
            "{PLUG_IN} needs a terminal (interactiveMode: Always), and stdin is not one"
        )),
        Some(ExecInteractiveMode::Always | ExecInteractiveMode::IfAvailable) | None => {
            Ok(is_terminal)
        }
    }
}

fn plug_in_command(plug_in: &ExecConfig) -> Result<Command, String> {
    let mode = plug_in.interactive_mode.as_ref();
    let is_interactive = is_interactive(mode, io::stdin().is_terminal())?;
    let exec_info = json!({
        "apiVersion": plug_in.api_version,
        "kind": "ExecCredential",
        "spec": match &plug_in.cluster {
            Some(cluster) if plug_in.provide_cluster_info => {
                json!({"interactive": is_interactive, "cluster": cluster})
            }
            _ => json!({"interactive": is_interactive}),
        },
    });
    let mut command = Command::new(plug_in.command.as_deref().unwrap_or_default());
    command.args(plug_in.args.iter().flatten());
    let variables = plug_in.env.iter().flatten();
    let variables = variables.filter_map(|pair| Some((pair.get("name")?, pair.get("value")?)));
    command.envs(variables);
    command.env("KUBERNETES_EXEC_INFO", exec_info.to_string());
    command.stdout(Stdio::piped());
    if is_interactive {
        command.stdin(Stdio::inherit()).stderr(Stdio::inherit());
    } else {
        command.stdin(Stdio::null()).stderr(Stdio::piped());
    }
    Ok(command)
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    #[test]
    fn a_plug_in_is_interactive_only_on_a_terminal() {
        use ExecInteractiveMode::{Always, IfAvailable, Never};
        for (mode, is_terminal, want) in [
            (Some(Never), true, Ok(false)),
            (Some(Never), false, Ok(false)),
            (Some(IfAvailable), true, Ok(true)),
            (Some(IfAvailable), false, Ok(false)),
            (None, true, Ok(true)),
            (None, false, Ok(false)),
            (Some(Always), true, Ok(true)),
            (Some(Always), false, Err(())),
        ] {
            let actual = is_interactive(mode.as_ref(), is_terminal).map_err(drop);
            assert_eq!(actual, want, "{mode:?} {is_terminal}");
        }
    }

    fn user(script: &str) -> AuthInfo {
        let exec = json!({"exec": {
            "apiVersion": "client.authentication.k8s.io/v1", "command": "/bin/sh", "args": ["-c", script],
            "env": [{"name": "WORD", "value": "from-the-kubeconfig"}], "interactiveMode": "Never",
        }});
        serde_json::from_value(exec).unwrap()
    }

    fn header_of(script: &str) -> Result<String, String> {
        let login = Login::new(&mut user(script), NOW).map_err(|error| error.to_string())?;
        let header = login.unwrap().header(NOW)?.unwrap();
        Ok(header.to_str().unwrap().to_owned())
    }

    #[test]
    fn reads_the_token_from_json_and_yaml() {
        for script in [
            r#"echo '{"kind": "ExecCredential", "status": {"token": "abc"}}'"#,
            r"echo 'kind: ExecCredential'; echo 'status: {token: abc}'",
            r#"test "$WORD" = from-the-kubeconfig && echo '{"status": {"token": "abc"}}'"#,
            r#"case $KUBERNETES_EXEC_INFO in *'"interactive":false'*) echo 'status: {token: abc}';; esac"#,
        ] {
            assert_eq!(header_of(script).as_deref(), Ok("Bearer abc"), "{script}");
        }
    }

    /// Attack: a credential plug-in writes endlessly to stdout or stderr, or a malformed token in its output or in the
    /// kubeconfig crashes the process.
    #[test]
    fn limits_a_plug_ins_output_and_rejects_malformed_tokens() {
        for (script, why) in [
            ("cat /dev/zero", "larger than 1 MiB"),
            ("cat /dev/zero >&2", "failed"),
            (
                r#"printf '{"status": {"token": "a\\nb"}}'"#,
                "control character",
            ),
            (
                r#"printf '{"status": {"token": "a\\u0000b"}}'"#,
                "control character",
            ),
            (
                r#"printf '{"status": {"token": "a\\u007fb"}}'"#,
                "control character",
            ),
            ("echo '{}'", "did not output"),
            (
                "echo canary-token; echo log in first >&2; exit 3",
                "log in first",
            ),
            ("printf '\\033[2Jcanary\\n' >&2; exit 3", "\\u{1b}[2J"),
        ] {
            let error = header_of(script).unwrap_err();
            assert!(error.contains(why), "{script}: {error}");
            assert!(
                !error.contains("canary-token") && !error.contains('\u{1b}'),
                "{error}"
            );
        }
        let mut user: AuthInfo = serde_json::from_value(json!({"token": "a\nb"})).unwrap();
        let error = Login::new(&mut user, NOW).err().unwrap().to_string();
        assert!(error.contains("control character"), "{error}");
    }

    fn user_of_file(path: &Path) -> AuthInfo {
        serde_json::from_value(json!({ "tokenFile": path })).unwrap()
    }

    #[test]
    fn reads_a_token_file_as_client_go_does() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        for (text, want) in [
            ("abc", Some("Bearer abc")),
            ("abc\n", Some("Bearer abc")),
            (" abc\r\n\n", Some("Bearer abc")),
            ("", None),
            ("\n", None),
            ("a\nb", None),
        ] {
            std::fs::write(&path, text).unwrap();
            let login = Login::new(&mut user_of_file(&path), NOW);
            let header = login.ok().flatten();
            let header = header.and_then(|login| login.header(NOW).unwrap());
            let header = header.as_ref().map(|header| header.to_str().unwrap());
            assert_eq!(header, want, "{text:?}");
        }
    }

    #[test]
    fn reads_a_token_file_again_after_a_minute_and_keeps_the_last_token() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        std::fs::write(&path, "first\n").unwrap();
        let login = Login::new(&mut user_of_file(&path), NOW).unwrap().unwrap();
        let header = |seconds| {
            let header = login.header(NOW + SignedDuration::from_secs(seconds));
            header.unwrap().unwrap().to_str().unwrap().to_owned()
        };
        std::fs::write(&path, "second\n").unwrap();
        assert_eq!(header(59), "Bearer first");
        assert_eq!(header(61), "Bearer second");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(header(200), "Bearer second");
    }

    #[test]
    fn accepts_expiries_from_the_year_1_to_9999() {
        for (text, is_valid) in [
            ("2199-01-01T00:00:00Z", true),
            ("9999-12-31T23:59:59Z", true),
            ("0001-01-01T00:00:00Z", true),
            ("tomorrow", false),
        ] {
            assert_eq!(parse_time(text).is_ok(), is_valid, "{text}");
        }
    }

    #[test]
    fn fetches_an_expired_token_again() {
        let directory = tempfile::tempdir().unwrap();
        let count = directory.path().join("count").display().to_string();
        let script = format!(
            "echo x >> '{count}'; n=$(wc -l < '{count}')\n\
             echo \"status: {{token: t$n, expirationTimestamp: '1970-01-01T01:00:00Z'}}\""
        );
        let login = Login::new(&mut user(&script), NOW).unwrap().unwrap();
        let header_after = |minutes: i64| {
            let now = NOW + SignedDuration::from_mins(minutes);
            let header = login.header(now).unwrap().unwrap();
            header.to_str().unwrap().replace(' ', "")
        };
        assert_eq!(
            [header_after(0), header_after(58), header_after(59)],
            ["Bearert1", "Bearert1", "Bearert2"]
        );
    }

    #[test]
    fn stores_a_certificate_in_the_users_entry() {
        let mut user = user("echo 'status: {clientCertificateData: cert, clientKeyData: key}'");
        let login = Login::new(&mut user, NOW).unwrap().unwrap();
        assert_eq!(login.header(NOW), Ok(None));
        assert_eq!(user.client_certificate_data, Some(STANDARD.encode("cert")));
        assert!(user.client_key_data.is_some() && user.exec.is_none());
    }
}
