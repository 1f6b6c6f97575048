//! Tests keys, certificates and ciphertexts that templates generate, with Go's `crypto/x509` and template engine.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::collections::BTreeMap;

use template::{Budget, Context, Data, Template};

use super::upstream::{Response, Upstream, Verdict};

fn render(text: &str, values: &[(&str, &str)]) -> String {
    let template = Template::parse("t", text).expect("the template parses");
    let data = Data::new(values.iter().map(|&(key, value)| (key, value)));
    let mut rng = shared::random::system();
    let mut context = Context {
        budget: Budget::default(),
        now: jiff::Timestamp::now(),
        rng: &mut rng,
    };
    let out = template
        .render(&data, &mut context)
        .expect("the template renders");
    String::from_utf8(out).expect("UTF-8")
}

/// Returns the parts of a result, separated by lines of `====`.
fn parts(text: &str, values: &[(&str, &str)]) -> Vec<String> {
    render(text, values)
        .split("====\n")
        .map(str::to_owned)
        .collect()
}

fn verify(certificate: &str, authority: &str, name: &str) -> Response {
    Upstream::start().ask(&serde_json::json!({ "certificate": certificate, "authority": authority, "dns_name": name }))
}

const CHAIN: &str = "{{ $ca := genCA \"authority\" 365 }}{{ $ca.Cert }}====
{{ (genSignedCert \"leaf\" (list \"10.0.0.1\" \"::1\") (list \"a.example.com\") 30 $ca).Cert }}";

#[test]
fn a_certificate_signed_by_a_generated_ca_verifies_for_its_names() {
    let chain = parts(CHAIN, &[]);
    for name in ["a.example.com", "10.0.0.1", "::1"] {
        assert_eq!(verify(&chain[1], &chain[0], name).error, "", "{name}");
    }
    assert!(
        verify(&chain[1], &chain[0], "b.example.com")
            .error
            .contains("not b.example.com")
    );
}

#[test]
fn a_certificate_of_another_ca_does_not_verify() {
    let (first, second) = (parts(CHAIN, &[]), parts(CHAIN, &[]));
    assert!(
        verify(&first[1], &second[0], "a.example.com")
            .error
            .contains("unknown authority")
    );
}

#[test]
fn an_expired_certificate_does_not_verify() {
    let text = "{{ (genSelfSignedCert \"x\" nil (list \"x.example.com\") -1).Cert }}";
    let certificate = render(text, &[]);
    assert!(
        verify(&certificate, &certificate, "x.example.com")
            .error
            .contains("expired")
    );
}

/// Returns Go's result for a template with these values.
fn render_in_go(text: &str, values: &[(&str, &str)]) -> Verdict {
    let values: BTreeMap<String, Vec<u8>> = values
        .iter()
        .map(|&(key, value)| (key.to_owned(), value.as_bytes().to_vec()))
        .collect();
    Upstream::start().render(text, &values)
}

#[test]
fn go_parses_every_type_of_key_and_writes_it_unchanged() {
    for kind in ["rsa", "ecdsa", "ed25519"] {
        let key = render(&format!("{{{{ genPrivateKey \"{kind}\" }}}}"), &[]);
        let template = "{{ (genCAWithKey \"x\" 1 .key).Key }}";
        assert_eq!(
            render_in_go(template, &[("key", &key)]),
            Verdict::Out(key.clone().into_bytes()),
            "{kind}"
        );
    }
}

#[test]
fn accepts_keys_generated_by_go() {
    for kind in ["rsa", "ecdsa", "ed25519"] {
        let Verdict::Out(key) = render_in_go(&format!("{{{{ genPrivateKey \"{kind}\" }}}}"), &[])
        else {
            panic!("Go generates {kind} keys");
        };
        let key = String::from_utf8(key).expect("PEM");
        let text = "{{ $c := genSelfSignedCertWithKey \"x\" nil (list \"x.example.com\") 9 .key }}{{ $c.Cert }}====
{{ $c.Key }}";
        let generated = parts(text, &[("key", &key)]);
        assert_eq!(generated[1], key, "{kind}");
        assert_eq!(
            verify(&generated[0], &generated[0], "x.example.com").error,
            "",
            "{kind}"
        );
    }
}

#[test]
fn each_engine_signs_with_a_ca_of_the_other() {
    let ca = parts(
        "{{ $c := genCA \"ours\" 9 }}{{ $c.Cert }}====\n{{ $c.Key }}",
        &[],
    );
    let sign = "{{ $ca := buildCustomCert (b64enc .cert) (b64enc .key) }}\
        {{ (genSignedCert \"leaf\" nil (list \"leaf.example.com\") 5 $ca).Cert }}";
    let Verdict::Out(leaf) = render_in_go(sign, &[("cert", &ca[0]), ("key", &ca[1])]) else {
        panic!("Go signs with the generated CA");
    };
    let leaf = String::from_utf8(leaf).expect("PEM");
    assert_eq!(verify(&leaf, &ca[0], "leaf.example.com").error, "");

    let Verdict::Out(go_ca) = render_in_go(
        "{{ $c := genCA \"theirs\" 9 }}{{ $c.Cert }}====\n{{ $c.Key }}",
        &[],
    ) else {
        panic!("Go generates a CA");
    };
    let go_ca = String::from_utf8(go_ca).expect("PEM");
    let (cert, key) = go_ca.split_once("====\n").expect("two parts");
    let leaf = render(sign, &[("cert", cert), ("key", key)]);
    assert_eq!(verify(&leaf, cert, "leaf.example.com").error, "");
}

#[test]
fn both_engines_refuse_a_ca_with_the_wrong_key() {
    let generate_ca = "{{ $c := genCA \"x\" 9 }}{{ $c.Cert }}====\n{{ $c.Key }}";
    let (first, second) = (parts(generate_ca, &[]), parts(generate_ca, &[]));
    let sign = "{{ (genSignedCert \"leaf\" nil nil 5 (buildCustomCert (b64enc .cert) (b64enc .key))).Cert }}";
    let values = [("cert", &*first[0]), ("key", &*second[1])];
    assert!(matches!(
        render_in_go(sign, &values),
        Verdict::RenderError(_)
    ));
    let template = Template::parse("t", sign).expect("the template parses");
    let data = Data::new(values);
    let mut rng = shared::random::system();
    let mut context = Context {
        budget: Budget::default(),
        now: jiff::Timestamp::now(),
        rng: &mut rng,
    };
    assert!(template.render(&data, &mut context).is_err());
}

#[test]
fn each_engine_decrypts_values_of_the_other() {
    let sealed = render("{{ encryptAES \"pass\" \"sixteen letters!\" }}", &[]);
    assert_eq!(
        render_in_go("{{ decryptAES \"pass\" .s }}", &[("s", &sealed)]),
        Verdict::Out(b"sixteen letters!".to_vec())
    );
    let Verdict::Out(sealed) = render_in_go("{{ encryptAES \"pass\" \"text\" }}", &[]) else {
        panic!("Go encrypts");
    };
    let sealed = String::from_utf8(sealed).expect("base 64");
    assert_eq!(
        render("{{ decryptAES \"pass\" .s }}", &[("s", &sealed)]),
        "text"
    );
}
