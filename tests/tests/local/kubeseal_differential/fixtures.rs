//! Keys, certificates and the loopback web server that every case may use, and the `${…}` placeholders
//! for them in the strings of cases.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use base64::{Engine, engine::general_purpose::STANDARD};
use tests::upstream::{KeyPair, KeyRequest, Upstream};

use super::web::WebServer;

const YEAR: i64 = 31_557_600;
/// Additional values of `${…}` placeholders, by name.
pub(crate) type Placeholders = BTreeMap<&'static str, String>;

/// 1 January 2020, long before any run.
const LONG_AGO: i64 = 1_577_836_800;

/// Fixtures that all cases share, created once per run of the suite.
pub(crate) struct Fixtures {
    pub(crate) upstream: Upstream,
    /// The standard files of every case's directory.
    pub(crate) files: BTreeMap<&'static str, Vec<u8>>,
    /// The private keys, each with the name of its certificate.
    pub(crate) keys: Vec<(&'static str, String)>,
    web: WebServer,
}

impl Fixtures {
    pub(crate) fn new() -> Result<Self> {
        let upstream = Upstream::start()?;
        let pairs = KeyPairs::new(&upstream)?;
        let keys = pairs.keys();
        let files = pairs.files()?;
        let web = WebServer::serve(files["cert.pem"].clone())?;
        Ok(Self {
            upstream,
            files,
            keys,
            web,
        })
    }

    pub(crate) fn web_port(&self) -> u16 {
        self.web.port()
    }

    /// Replaces the placeholders in a string, except `${dir}`, because each run has its own directory.
    pub(crate) fn fill(&self, text: &str, placeholders: &Placeholders) -> Result<String> {
        let mut result = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            let (placeholder, tail) = split_placeholder(after)?;
            result.push_str(before);
            let text = match placeholders.get(placeholder) {
                Some(text) => text.clone(),
                None => self
                    .expand(placeholder)
                    .with_context(|| format!("in ${{{placeholder}}}"))?,
            };
            result.push_str(&text);
            rest = tail;
        }
        result.push_str(rest);
        Ok(result)
    }

    fn expand(&self, placeholder: &str) -> Result<String> {
        let (kind, rest) = placeholder.split_once(':').unwrap_or((placeholder, ""));
        match kind {
            "dir" => Ok("${dir}".to_owned()),
            "http" => Ok(self.web.url()),
            "file" => Ok(self.text(rest)?.to_owned()),
            "crlf" => Ok(self.text(rest)?.replace('\n', "\r\n")),
            "base64" => Ok(STANDARD.encode(self.join_files(rest)?)),
            "zeros" => Ok("0".repeat(rest.parse()?)),
            "sealed" => self.seal("cert.pem", rest),
            "sealed-wrapped" => Ok(wrap_base64(&self.seal("cert.pem", rest)?)),
            "sealed-by" => {
                let (certificate, rest) = rest.split_once(':').context("no label")?;
                self.seal(certificate, rest)
            }
            _ => bail!("unknown placeholder; tests/differential/README.md lists them"),
        }
    }

    fn seal(&self, certificate: &str, label_and_plain: &str) -> Result<String> {
        let (label, plain) = label_and_plain.split_once(':').context("no plaintext")?;
        let certificate = self.text(certificate)?;
        let sealed = self
            .upstream
            .seal_value(certificate, label.as_bytes(), plain.as_bytes())?;
        Ok(STANDARD.encode(sealed))
    }

    pub(crate) fn text(&self, name: &str) -> Result<&str> {
        Ok(std::str::from_utf8(self.file(name)?)?)
    }

    /// Joins the contents of files, such as `a.pem+b.pem`.
    fn join_files(&self, names: &str) -> Result<Vec<u8>> {
        let files = names
            .split('+')
            .map(|name| self.file(name))
            .collect::<Result<Vec<_>>>()?;
        Ok(files.concat())
    }

    fn file(&self, name: &str) -> Result<&[u8]> {
        self.files
            .get(name)
            .map(Vec::as_slice)
            .with_context(|| format!("no standard file {name}"))
    }
}

/// Splits a string after a placeholder, which may contain JSON and ends at its matching brace.
fn split_placeholder(text: &str) -> Result<(&str, &str)> {
    let mut depth = 1;
    for (index, character) in text.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Ok((&text[..index], &text[index + 1..]));
        }
    }
    bail!("`${{` without `}}`")
}

struct KeyPairs {
    current: KeyPair,
    old: KeyPair,
    expired: KeyPair,
    future: KeyPair,
    elliptic: KeyPair,
}

impl KeyPairs {
    /// Generates the pairs. The RSA keys have 2048 bits, the smallest supported size, since the comparison does not
    /// depend on the size. The current pair is newer than the old one.
    fn new(upstream: &Upstream) -> Result<Self> {
        let rsa = || KeyRequest::rsa(2048);
        Ok(Self {
            current: upstream.generate(&KeyRequest {
                not_before: LONG_AGO + YEAR,
                ..rsa()
            })?,
            old: upstream.generate(&rsa())?,
            expired: upstream.generate(&KeyRequest {
                valid_for: YEAR,
                ..rsa()
            })?,
            future: upstream.generate(&KeyRequest {
                not_before: LONG_AGO + 80 * YEAR,
                ..rsa()
            })?,
            elliptic: upstream.generate(&KeyRequest::rsa(0))?,
        })
    }

    fn keys(&self) -> Vec<(&'static str, String)> {
        vec![
            ("cert.pem", self.current.pkcs1.clone()),
            ("old-cert.pem", self.old.pkcs1.clone()),
            ("expired.pem", self.expired.pkcs1.clone()),
            ("future.pem", self.future.pkcs1.clone()),
        ]
    }

    fn files(self) -> Result<BTreeMap<&'static str, Vec<u8>>> {
        Ok([
            ("cert.der", der(&self.current.certificate)?),
            ("cert.pem", self.current.certificate.into_bytes()),
            ("key.pem", self.current.pkcs1.into_bytes()),
            ("key8.pem", self.current.pkcs8.into_bytes()),
            ("public.pem", self.current.public_key.into_bytes()),
            ("old-cert.pem", self.old.certificate.into_bytes()),
            ("old-key.pem", self.old.pkcs1.into_bytes()),
            ("expired.pem", self.expired.certificate.into_bytes()),
            ("future.pem", self.future.certificate.into_bytes()),
            ("ec-cert.pem", self.elliptic.certificate.into_bytes()),
            ("ec-key.pem", self.elliptic.pkcs1.into_bytes()),
            ("ec-key8.pem", self.elliptic.pkcs8.into_bytes()),
        ]
        .into())
    }
}

fn der(pem: &str) -> Result<Vec<u8>> {
    let body: String = pem
        .lines()
        .filter(|line| !line.starts_with("-----"))
        .collect();
    Ok(STANDARD.decode(body)?)
}

/// Inserts a line break after every 64 characters, escaped for a double-quoted JSON or YAML scalar.
fn wrap_base64(base64: &str) -> String {
    let mut lines = String::new();
    for (index, character) in base64.chars().enumerate() {
        if index > 0 && index % 64 == 0 {
            lines.push_str("\\n");
        }
        lines.push(character);
    }
    lines
}
