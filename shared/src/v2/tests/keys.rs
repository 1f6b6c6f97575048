//! Tests of keys and their text forms.

use super::*;

#[test]
fn recipients_read_what_they_write() {
    for (key, suite) in [(&KEYS.xw, Suite::XWing), (&KEYS.p256, Suite::P256)] {
        let mut recipient = key.recipient();
        recipient.comment = "prod, Frankfurt".into();
        let line = recipient.to_string();
        let read = PublicRecipient::parse(&format!("{line}\n")).unwrap();
        assert_eq!((read.key_id(), read.suite()), (recipient.key_id(), suite));
        assert_eq!(read.comment, recipient.comment);
        assert_eq!(read.to_string(), line);
        let bare = key.recipient().to_string();
        assert_eq!(PublicRecipient::parse(&bare).unwrap().to_string(), bare);
    }
}

#[test]
fn private_keys_read_what_they_write() {
    for key in [&KEYS.xw, &KEYS.p256] {
        let text = String::from_utf8(key.to_text().expose().to_vec()).unwrap();
        let read = SecretKey::parse(&text).unwrap();
        assert_eq!(read.recipient().key_id(), key.recipient().key_id());
    }
}

#[test]
fn reports_why_a_recipient_cannot_be_used() {
    let line = KEYS.p256.recipient().to_string();
    let fields: Vec<&str> = line.split(' ').collect();
    let other_id = KEYS.xw.recipient().key_id().short();
    let line_with =
        |suite: &str, id: &str, key: &str| format!("seal2-recipient {suite} {id} {key}");
    let zeros = text::base64url(&[0; 65]);
    for (line, want) in [
        (String::new(), KeyTextError::RecipientForm),
        ("ssh-ed25519 AAAA".into(), KeyTextError::RecipientForm),
        ("seal2-recipient p256".into(), KeyTextError::RecipientForm),
        ("age1pq1qqqq".into(), KeyTextError::RecipientForm),
        (line_with("rsa", fields[2], fields[3]), KeyTextError::Suite),
        (line_with("x", fields[2], fields[3]), KeyTextError::Suite),
        (line_with("xw", fields[2], fields[3]), KeyTextError::Key),
        (line_with("p256", fields[2], &zeros), KeyTextError::Key),
        (
            line_with("p256", "x", fields[3]),
            KeyTextError::RecipientForm,
        ),
        (
            line_with("p256", fields[2], "="),
            KeyTextError::RecipientForm,
        ),
        (
            line_with("p256", &other_id.to_string(), fields[3]),
            KeyTextError::Mismatch,
        ),
    ] {
        assert_eq!(PublicRecipient::parse(&line).unwrap_err(), want, "{line}");
    }
}

#[test]
fn reports_why_a_private_key_cannot_be_used() {
    for (text, want) in [
        ("", KeyTextError::KeyForm),
        ("seal2-key xw", KeyTextError::KeyForm),
        ("seal2-key xw AA AA", KeyTextError::KeyForm),
        ("seal2-key xw *", KeyTextError::KeyForm),
        ("seal2-key xw AA", KeyTextError::Key),
        (
            "seal2-key rsa AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            KeyTextError::Suite,
        ),
        (
            "seal2-key p256 AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            KeyTextError::Key,
        ),
        ("AGE-SECRET-KEY-PQ-1QQQQ", KeyTextError::KeyForm),
    ] {
        assert_eq!(SecretKey::parse(text).unwrap_err(), want, "{text}");
    }
}

/// Uses a key pair that age generated.
#[test]
fn post_quantum_keys_of_age_are_keys_of_the_suite_xw() {
    let pair = read_vectors("age.json");
    let key = SecretKey::parse(pair["identity"].as_str().unwrap()).unwrap();
    let recipient = PublicRecipient::parse(pair["recipient"].as_str().unwrap()).unwrap();
    assert_eq!(recipient.key_id(), key.recipient().key_id());
    assert_eq!(recipient.suite(), Suite::XWing);
}

#[test]
fn generated_keys_differ_and_no_key_shows_its_bytes() {
    for suite in [Suite::XWing, Suite::P256] {
        let rng = &mut rng();
        let keys = [
            SecretKey::generate(suite, rng),
            SecretKey::generate(suite, rng),
        ];
        let [one, other] = keys.map(Result::unwrap);
        assert_ne!(one.recipient().key_id(), other.recipient().key_id());
        let shown = format!("{one:?}");
        assert!(
            shown.contains("Plain(…)") && !shown.contains('['),
            "{shown}"
        );
    }
    let rsa = SecretKey::generate(Suite::Rsa, &mut rng());
    assert_eq!(rsa.unwrap_err(), KeyTextError::Suite);
}

/// Certificates encode the algorithm in several ways; the identifier covers one canonical encoding.
#[test]
fn the_identifier_of_an_rsa_key_covers_its_canonical_encoding() {
    let der = crate::key::test_key()
        .private()
        .public_key()
        .v2_id()
        .to_owned();
    let certificate = crate::key::test_key().certificate().public_key();
    assert_eq!(certificate.key_id(), der);
}
