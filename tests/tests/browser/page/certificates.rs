//! Tests which certificates the page accepts.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::{SignedDuration, Timestamp};
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};
use shared::key::{Certificate, KeySize, KeySpec};
use tests::sealing::KEYS;
use tests::upstream::{KeyRequest, Upstream};

use super::{Form, certificate_of, private_pem};

fn expired() -> String {
    let spec = KeySpec {
        size: KeySize::Rsa2048,
        ttl: SignedDuration::from_hours(24),
        common_name: String::new(),
    };
    let made = "2020-01-01T00:00:00Z".parse::<Timestamp>().unwrap();
    certificate_of(&spec.generate(made, &mut shared::random::system()).unwrap())
}

fn elliptic() -> String {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::default().self_signed(&key).unwrap();
    let der = STANDARD.encode(certificate.der());
    format!("-----BEGIN CERTIFICATE-----\n{der}\n-----END CERTIFICATE-----\n")
}

/// Fault: a user enters an expired or damaged certificate, or another kind of file.
#[test]
fn refuses_wrong_certificates_with_a_message_next_to_the_field() {
    let form = Form::open(None);
    let pem = certificate_of(&KEYS[0]);
    let half = &pem[..pem.len() / 2];
    for (text, want) in [
        (expired(), "expired on January 2, 2020"),
        (elliptic(), "no RSA key"),
        (
            private_pem().to_owned(),
            "a private key, which must be kept secret",
        ),
        (format!("{pem}{}", private_pem()), "a private key"),
        (format!("{pem}{pem}"), "2 certificates"),
        (half.to_owned(), "incomplete"),
        (pem.replacen("MII", "M*I", 1), "not Base64"),
        (pem.replacen("MII", "MIJ", 1), "malformed"),
        (pem.replace("CERTIFICATE", "PUBLIC KEY"), "a public key"),
        (
            pem.replace("CERTIFICATE", "CERTIFICATE REQUEST"),
            "a signing request",
        ),
        ("seal2-recipient xw a b".to_owned(), "v2"),
        ("hello".to_owned(), "not a certificate"),
        ("x".repeat(100_000), "too long"),
    ] {
        form.set("certificate", &text);
        let message = form.value("$('certificate-error').textContent");
        assert!(
            message.as_str().unwrap().contains(want),
            "{want}: {message}"
        );
        let is_cleared = form.value("$('certificate').value") == "";
        let is_private = want.contains("private key");
        assert_eq!(
            is_cleared, is_private,
            "only a private key is removed from the field"
        );
        form.fill("password", "hunter2");
        let outcome = form.seal();
        assert_eq!(outcome.output, None, "{want}");
        assert_eq!(outcome.errors.len(), 1, "{want}: {outcome:?}");
        assert_eq!(outcome.errors[0].0, "certificate-error");
    }
}

#[test]
fn shows_the_fingerprint_and_checks_the_expected_one() {
    let form = Form::open(None);
    let certificate = KEYS[0].pair.certificate();
    form.set(
        "certificate",
        &format!(
            "# controller\r\n{}",
            certificate.to_pem().replace('\n', " \r\n")
        ),
    );
    let fingerprint = certificate.fingerprint().to_string();
    let shown = form.value(
        "[$('fingerprint'), $('valid-until'), $('key-size')].map(field => field.textContent)",
    );
    assert_eq!(
        shown,
        json!([fingerprint, "November 11, 2033", "RSA, 2048 bits"])
    );
    form.fill("password", "hunter2");
    let other = KEYS[1].pair.certificate().fingerprint().to_string();
    for (expected, want) in [
        (other.as_str(), "another fingerprint"),
        ("SHA256:x", "43 characters"),
    ] {
        form.set("expected", expected);
        let outcome = form.seal();
        assert_eq!(outcome.output, None);
        assert_eq!(outcome.errors[0].0, "expected-error");
        assert!(outcome.errors[0].1.contains(want), "{outcome:?}");
    }
    form.set("expected", &fingerprint);
    form.sealed();
}

/// Attack: an attacker changes the address of the page or the form, so that a pinned page seals for another key.
#[test]
fn a_pinned_page_seals_for_its_certificate_only() {
    let form = Form::open(Some(&certificate_of(&KEYS[0])));
    assert_eq!(form.value("$('certificate-input').hidden"), true);
    let address = format!("{}?certificate=x#certificate=y", form.url());
    form.browser.open(&address);
    form.set("certificate", &certificate_of(&KEYS[1]));
    form.fill("password", "hunter2");
    let sealed = super::object(&form.sealed());
    assert_eq!(super::unsealed(&sealed)["password"], b"hunter2");

    form.reopen(Some(&expired()));
    form.fill("password", "hunter2");
    let outcome = form.seal();
    assert_eq!(outcome.output, None);
    assert!(
        outcome.errors[0].1.contains("cannot be used any more"),
        "{outcome:?}"
    );
}

/// Attack: an attacker changes a certificate in transit, so that the page reads another key or validity than
/// the programs. Examples are a second length, bytes after the end, and an unusual encoding.
#[test]
fn reads_changed_certificates_as_the_programs_do_or_refuses_them() {
    check_changed_certificates(SAMPLE);
}

/// Attack: an attacker changes or shortens a certificate in transit, at any position.
#[test]
#[ignore = "a sample of the positions covers every field; `.ci/extra browser` runs this one"]
fn reads_every_changed_certificate_as_the_programs_do_or_refuses_it() {
    check_changed_certificates(ALL);
}

/// Changes two certificates at the positions that a JavaScript function returns, and checks what the page reads.
fn check_changed_certificates(positions: &str) {
    let form = Form::open(None);
    let upstream = Upstream::start().unwrap();
    let named = KeyRequest {
        common_name: "sealed-secrets".to_owned(),
        ..KeyRequest::rsa(3072)
    };
    let issued = upstream.generate(&named).unwrap().certificate;
    for pem in [certificate_of(&KEYS[0]), issued] {
        let original = Certificate::from_pem(pem.as_bytes()).unwrap();
        let der: String = pem
            .lines()
            .filter(|line| !line.starts_with("---"))
            .collect();
        let positions = form.browser.call(positions, &[json!(der)]);
        let accepted = form.browser.call(CHANGES, &[json!(der), positions]);
        let accepted = accepted.as_array().unwrap();
        assert!(
            accepted.len() > 100,
            "changes of names, serial numbers and signatures are accepted"
        );
        for change in accepted {
            check_change(change, &original);
        }
        assert!(accepted.iter().all(|change| !is_shortened(change)));
    }
}

/// Checks that the programs read the same key and the same end from a certificate that the page accepts.
fn check_change(change: &Value, original: &Certificate) {
    let text = |field: &str| change[field].as_str().unwrap();
    let what = text("what");
    let pem = format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        text("der")
    );
    let Ok(parsed) = Certificate::from_pem(pem.as_bytes()) else {
        // The programs also check names, extensions and algorithms, which have no effect on sealing.
        let fingerprint = original.fingerprint().to_string();
        assert_eq!(text("fingerprint"), fingerprint, "{what}");
        return;
    };
    let fingerprint = parsed.fingerprint().to_string();
    assert_eq!(text("fingerprint"), fingerprint, "{what}");
    let end = change["notAfter"].as_i64().unwrap();
    assert_eq!(end, parsed.not_after().as_second(), "{what}");
}

fn is_shortened(change: &Value) -> bool {
    change["what"].as_str().unwrap().starts_with("length")
}

/// Returns every position in a certificate.
const ALL: &str = "async der => [...bytesOfBase64(der).keys()]";

/// Returns the positions of each tag, length and date, of the first and the last byte of each other content, and every
/// 32nd position.
const SAMPLE: &str = "async der => {
    const bytes = bytesOfBase64(der);
    const chosen = new Set([...bytes.keys()].filter(i => i % 32 === 0));
    const addFields = (start, end) => {
        for (let position = start; position < end;) {
            const tag = bytes[position];
            const [first, last] = contentRange(bytes, position + 1);
            const isDate = tag === TAG.utcTime || tag === TAG.generalizedTime;
            for (let i = position; i < last; i += 1) {
                if (i <= first || i === last - 1 || isDate) {
                    chosen.add(i);
                }
            }
            // The key is inside a BIT STRING, behind a byte that counts its unused bits.
            const isKey = tag === TAG.bitString && bytes[first + 1] === TAG.sequence;
            if (isKey) {
                addFields(first + 1, last);
            } else if (tag & 0x20) {
                addFields(first, last);
            }
            position = last;
        }
    };
    addFields(0, bytes.length);
    return [...chosen];
}";

/// Returns the changed certificates that the page accepts. For each position, the changes are three other values of the
/// byte, and a certificate that ends before the byte. One more change is an additional byte at the end.
const CHANGES: &str = "async (der, positions) => {
    const original = bytesOfBase64(der);
    const accepted = [];
    const attempt = async (what, bytes) => {
        try {
            const found = await readCertificate(
                `-----BEGIN CERTIFICATE-----\\n${base64Of(bytes)}\\n-----END CERTIFICATE-----`);
            const { fingerprint, notAfter } = found;
            accepted.push({ what, der: base64Of(bytes), fingerprint, notAfter: notAfter.getTime() / 1000 });
        } catch (error) {
            if (!(error instanceof InputError)) {
                throw error;
            }
        }
    };
    for (const i of positions) {
        for (const change of [1, 0x80, 0xff]) {
            const bytes = original.slice();
            bytes[i] ^= change;
            await attempt(`byte ${i} ^ ${change}`, bytes);
        }
        await attempt(`length ${i}`, original.slice(0, i));
    }
    await attempt('length + 1', Uint8Array.from([...original, 0]));
    return accepted;
}";
